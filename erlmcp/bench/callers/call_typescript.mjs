// A TypeScript client: call_typescript.mjs sdk|client http URL | stdio COMMAND...
//
// "sdk" is @modelcontextprotocol/sdk, "client" is @modelcontextprotocol/client. See turn.py for what it reads and writes.
import { createInterface } from 'node:readline';

const TEXT = 'the quick brown fox';
const [library, kind, ...words] = process.argv.slice(2);

async function load() {
    if (library === 'client') {
        const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
        const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
        return { Client, StreamableHTTPClientTransport, StdioClientTransport };
    }
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
    return { Client, StreamableHTTPClientTransport, StdioClientTransport };
}

const { Client, StreamableHTTPClientTransport, StdioClientTransport } = await load();
const options = library === 'client' ? { versionNegotiation: { mode: 'auto' } } : {};
const client = new Client({ name: 'bench', version: '1' }, options);
await client.connect(
    kind === 'http'
        ? new StreamableHTTPClientTransport(new URL(words[0]))
        : new StdioClientTransport({ command: words[0], args: words.slice(1), env: process.env })
);
await client.listTools();

async function call() {
    const result = await client.callTool({ name: 'echo', arguments: { text: TEXT } });
    if (result.structuredContent?.result !== TEXT) throw new Error(`the server answered ${JSON.stringify(result)}`);
}

async function turn({ inflight, seconds }) {
    const times = [];
    const spent = process.cpuUsage();
    const began = process.hrtime.bigint();
    const end = began + BigInt(Math.round(seconds * 1e9));
    const work = async () => {
        for (let before = process.hrtime.bigint(); before < end; ) {
            await call();
            const now = process.hrtime.bigint();
            times.push(Number(now - before));
            before = now;
        }
    };
    await Promise.all(Array.from({ length: inflight }, work));
    const took = Number(process.hrtime.bigint() - began) / 1e9;
    const { user, system } = process.cpuUsage(spent);
    times.sort((a, b) => a - b);
    return {
        count: times.length,
        seconds: took,
        cpu_s: (user + system) / 1e6,
        p50_us: times[times.length >> 1] / 1e3,
        p99_us: times[Math.floor((times.length * 99) / 100)] / 1e3,
    };
}

await call();
process.stdout.write('{"ready": true}\n');
for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await turn(JSON.parse(line))) + '\n');
}
await client.close();
