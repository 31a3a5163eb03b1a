// Drives a TypeScript client against an MCP server and prints what it saw as JSON.
//
//   node client.mjs sdk|client legacy|auto|pin http URL
//   node client.mjs sdk|client legacy|auto|pin stdio COMMAND [ARGUMENT...]
//
// "sdk" is @modelcontextprotocol/sdk (the first line of releases, handshake only), "client" is
// @modelcontextprotocol/client (both eras).
const [library, mode, transportName, ...target] = process.argv.slice(2);

async function load() {
    if (library === 'client') {
        const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
        const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
        return { Client, StreamableHTTPClientTransport, StdioClientTransport, named: (name) => name };
    }
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
    const types = await import('@modelcontextprotocol/sdk/types.js');
    const schemas = {
        'elicitation/create': types.ElicitRequestSchema,
        'sampling/createMessage': types.CreateMessageRequestSchema,
        'roots/list': types.ListRootsRequestSchema,
    };
    return { Client, StreamableHTTPClientTransport, StdioClientTransport, named: (name) => schemas[name] };
}

const { Client, StreamableHTTPClientTransport, StdioClientTransport, named } = await load();
const capabilities = { elicitation: {}, sampling: {}, roots: {} };
const options = { capabilities };
if (library === 'client' && mode !== 'legacy') {
    options.versionNegotiation = { mode: mode === 'auto' ? 'auto' : { pin: '2026-07-28' } };
}
const client = new Client({ name: 'interop', version: '1' }, options);
client.setRequestHandler(named('elicitation/create'), async (request) => {
    const known = { days: 3, name: 'Ada', color: 'red' };
    const asked = Object.keys(request.params.requestedSchema.properties);
    return { action: 'accept', content: Object.fromEntries(asked.map((name) => [name, known[name]])) };
});
client.setRequestHandler(named('sampling/createMessage'), async () => ({
    role: 'assistant',
    content: { type: 'text', text: 'sampled' },
    model: 'none',
}));
client.setRequestHandler(named('roots/list'), async () => ({ roots: [{ uri: 'file:///home/ada' }] }));

const transport =
    transportName === 'http'
        ? new StreamableHTTPClientTransport(new URL(target[0]))
        : new StdioClientTransport({ command: target[0], args: target.slice(1), env: process.env });
const seen = {};
const call = async (name, args = {}, more = {}) => {
    const parameters = { name, arguments: args };
    const result =
        library === 'client'
            ? await client.callTool(parameters, more)
            : await client.callTool(parameters, undefined, more);
    return result;
};
const text = (result) => result.content[0].text;

await client.connect(transport);
seen.server = client.getServerVersion()?.name;
seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
const sum = await call('add', { a: 40, b: 2 });
seen.add = [text(sum), sum.structuredContent];
seen.header = text(await call('test_x_mcp_header', { region: 'Malmö' }));
seen.failed = (await call('test_error_handling')).isError;
seen.unknown = await call('nobody').then(
    () => 'answered',
    (error) => error.code
);
seen.progress = [];
await call('test_tool_with_progress', {}, { onprogress: (update) => seen.progress.push(update.progress) });
seen.booked = text(await call('book_trip', { destination: 'Lund' }));
seen.sampled = text(await call('test_sampling', { prompt: 'Say it' }));
seen.rounds = text(await call('test_input_required_result_multi_round'));
seen.roots = text(await call('test_input_required_result_list_roots'));
seen.resources = (await client.listResources()).resources.map((resource) => resource.uri);
seen.read = (await client.readResource({ uri: 'test://static-text' })).contents[0].text;
seen.templates = (await client.listResourceTemplates()).resourceTemplates.map((template) => template.uriTemplate);
seen.prompts = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
const prompt = await client.getPrompt({ name: 'test_prompt_with_arguments', arguments: { arg1: 'a', arg2: 'b' } });
seen.prompt = prompt.messages[0].content.text;
const completion = await client.complete({
    ref: { type: 'ref/prompt', name: 'test_prompt_with_arguments' },
    argument: { name: 'arg1', value: 'par' },
});
seen.completion = completion.completion.values;
const many = await Promise.all(Array.from({ length: 50 }, (_, n) => call('add', { a: n, b: n })));
seen.many = many.map(text);
const abort = new AbortController();
const slow = call('slow', { seconds: 20 }, { signal: abort.signal });
setTimeout(() => abort.abort(), 100);
seen.cancelled = await slow.then(
    () => 'answered',
    () => 'cancelled'
);
seen.after = text(await call('add', { a: 1 }));
if (transportName === 'http' && typeof transport.terminateSession === 'function' && mode === 'legacy') {
    await transport.terminateSession();
}
await client.close();
process.stdout.write(JSON.stringify(seen) + '\n');
