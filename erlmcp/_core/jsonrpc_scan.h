/* The envelope of a JSON-RPC 2.0 message, with the parts of params that MCP routes by, in one strict pass and
 * without objects.
 *
 * Order of verdicts: grammar (-32700) and limits (-32600) as they are met, in the order of the text; the shape of
 * the message (-32600) after its end, when all of it is known to be JSON. A key counts as what it says after its
 * escapes are resolved, and what is routed by may stand there only once: two readers that take different ones of two
 * equal keys see two messages.
 */
#ifndef ERLMCP_JSONRPC_SCAN_H
#define ERLMCP_JSONRPC_SCAN_H

#include "json_scan.h"

enum {
    JSONRPC_ID_BYTES_MAX = 1024,
    JSONRPC_REQUEST = 1,
    JSONRPC_NOTIFICATION = 2,
    JSONRPC_RESULT = 3,
    JSONRPC_ERROR = 4,
    JSONRPC_BATCH = 5,
    JSONRPC_INVALID = 6,
    JSONRPC_ID_NONE = 0,
    JSONRPC_ID_INT = 1,
    JSONRPC_ID_STRING = 2,
    JSONRPC_ID_NULL = 3,
    JSONRPC_ID_BAD = 4,
    JSONRPC_TEXT_ABSENT = 0,
    JSONRPC_TEXT_PLAIN = 1,
    JSONRPC_TEXT_ESCAPED = 2,
    JSONRPC_TEXT_OTHER = 3
};

typedef struct {
    uint32_t start;
    uint32_t size;
} span_t;

typedef struct {
    uint32_t start;
    uint32_t size;
    uint32_t state;
} text_span_t;

typedef struct {
    const char *data;
    uint32_t size;
    text_span_t version;
    span_t progress_token;
} meta_hint_t;

typedef struct {
    uint8_t kind;
    uint8_t id_kind;
    uint8_t is_response;
    int meta_hit;
    int code;
    const char *message;
    uint32_t at;
    uint32_t item_count;
    span_t id;
    text_span_t method;
    span_t params;
    span_t result;
    span_t error;
    text_span_t name;
    text_span_t uri;
    span_t arguments;
    span_t meta;
    text_span_t version;
    span_t progress_token;
} envelope_t;

enum { /* what was seen, one bit for each key that may stand only once */
    SEEN_JSONRPC = 1,
    SEEN_ID = 2,
    SEEN_METHOD = 4,
    SEEN_PARAMS = 8,
    SEEN_RESULT = 16,
    SEEN_ERROR = 32,
    SEEN_NAME = 64,
    SEEN_URI = 128,
    SEEN_ARGUMENTS = 256,
    SEEN_META = 512,
    SEEN_VERSION = 1024,
    SEEN_TOKEN = 2048,
    SEEN_TOP = 63
};

#define JSONRPC_VERSION_KEY "io.modelcontextprotocol/protocolVersion"

typedef struct {
    const char *start;
    const char *end;
    const json_limits_t *limits;
    const meta_hint_t *hints;
    int hint_count;
    uint32_t seen;
    uint32_t twice;
    int is_version_2;
    envelope_t *out;
    json_fail_t fail;
} jsonrpc_scan_t;

typedef const char *(*jsonrpc_member_t)(jsonrpc_scan_t *scan, const char *key, size_t n, const char *value);

static inline void jsonrpc_note(jsonrpc_scan_t *scan, uint32_t bit) {
    scan->twice |= scan->seen & bit;
    scan->seen |= bit;
}

static inline const char *jsonrpc_span(jsonrpc_scan_t *scan, const char *p, uint32_t depth, span_t *span) {
    const char *past = json_skip(p, scan->end, scan->limits, depth, &scan->fail);
    if (past != NULL) {
        span->start = (uint32_t)(p - scan->start);
        span->size = (uint32_t)(past - p);
    }
    return past;
}

static inline const char *jsonrpc_text(jsonrpc_scan_t *scan, const char *p, uint32_t depth, text_span_t *text) {
    int escaped;
    if (JSON_UNLIKELY(p == scan->end || *p != '"')) {
        span_t span = {0, 0};
        p = jsonrpc_span(scan, p, depth, &span);
        text->start = span.start;
        text->size = span.size;
        text->state = JSONRPC_TEXT_OTHER;
        return p;
    }
    const char *past = json_skip_string(p + 1, scan->end, scan->limits, &escaped, &scan->fail);
    if (past != NULL) {
        text->start = (uint32_t)(p + 1 - scan->start);
        text->size = (uint32_t)(past - p - 2);
        text->state = escaped ? JSONRPC_TEXT_ESCAPED : JSONRPC_TEXT_PLAIN;
    }
    return past;
}

typedef struct {
    const char *text;
    size_t size;
    char plain[256];
} jsonrpc_key_t;

/* The key at p, with whatever stands before its value: at the value. */
__attribute__((noinline)) static const char *jsonrpc_any_key(jsonrpc_scan_t *scan, const char *p, jsonrpc_key_t *key) {
    const char *end = scan->end;
    int escaped;
    if (JSON_UNLIKELY(p == end || *p != '"')) {
        return json_fail_at(&scan->fail, p == end ? JSON_E_END : JSON_E_KEY, p);
    }
    key->text = p + 1;
    p = json_skip_string(p + 1, end, scan->limits, &escaped, &scan->fail);
    if (JSON_UNLIKELY(p == NULL)) {
        return NULL;
    }
    key->size = (size_t)(p - 1 - key->text);
    if (JSON_UNLIKELY(escaped)) { /* no key of ours is longer than 39 characters, written as 234 bytes of escapes */
        key->size = key->size < sizeof(key->plain) ? json_unescape(key->text, key->size, key->plain) : 0;
        key->text = key->plain;
    }
    p = json_skip_blank(p, end);
    if (JSON_UNLIKELY(p == end || *p != ':')) {
        return json_fail_at(&scan->fail, p == end ? JSON_E_END : JSON_E_COLON, p);
    }
    return json_skip_blank(p + 1, end);
}

/* The rest of an object whose next key is at p: `member` is told of each member and goes past its value. Short keys
 * that are followed by their colon, and commas that are followed by a key, take the short way. */
__attribute__((always_inline)) static inline const char *
jsonrpc_members_from(jsonrpc_scan_t *scan, const char *p, jsonrpc_member_t member) {
    const char *end = scan->end;
    const int is_short_fine = scan->limits->string_bytes_max >= JSON_AHEAD;
    jsonrpc_key_t key;
    for (;;) {
        const char *q = is_short_fine ? json_peek_key(p, end) : NULL;
        if (JSON_LIKELY(q != NULL)) {
            key.text = p + 1;
            key.size = (size_t)(q - p - 1);
            p = q + 2;
        } else {
            p = jsonrpc_any_key(scan, p, &key);
            if (JSON_UNLIKELY(p == NULL)) {
                return NULL;
            }
        }
        p = member(scan, key.text, key.size, p);
        if (JSON_UNLIKELY(p == NULL)) {
            return NULL;
        }
        p = json_skip_blank(p, end);
        if (p < end && *p == ',') {
            p = json_skip_blank(p + 1, end);
        } else if (JSON_LIKELY(p < end && *p == '}')) {
            return p + 1;
        } else {
            return json_fail_at(&scan->fail, p == end ? JSON_E_END : JSON_E_COMMA, p);
        }
    }
}

/* The members of the object at p (its brace). `depth` containers are open around the object. */
__attribute__((always_inline)) static inline const char *
jsonrpc_members(jsonrpc_scan_t *scan, const char *p, uint32_t depth, jsonrpc_member_t member) {
    if (JSON_UNLIKELY(depth >= scan->limits->depth_max)) {
        return json_fail_at(&scan->fail, JSON_L_DEPTH, p);
    }
    p = json_skip_blank(p + 1, scan->end);
    if (p < scan->end && *p == '}') {
        return p + 1;
    }
    return jsonrpc_members_from(scan, p, member);
}

#define JSONRPC_IS(key, n, literal) ((n) == sizeof(literal) - 1 && memcmp(key, literal, sizeof(literal) - 1) == 0)

/* --- params._meta --- */

static inline const char *jsonrpc_meta_member(jsonrpc_scan_t *scan, const char *key, size_t n, const char *value) {
    if (JSONRPC_IS(key, n, JSONRPC_VERSION_KEY)) {
        jsonrpc_note(scan, SEEN_VERSION);
        return jsonrpc_text(scan, value, 3, &scan->out->version);
    }
    if (JSONRPC_IS(key, n, "progressToken")) {
        jsonrpc_note(scan, SEEN_TOKEN);
        return jsonrpc_span(scan, value, 3, &scan->out->progress_token);
    }
    return json_skip(value, scan->end, scan->limits, 3, &scan->fail);
}

static const char *jsonrpc_meta(jsonrpc_scan_t *scan, const char *p) {
    envelope_t *out = scan->out;
    if (p == scan->end || *p != '{') {
        return jsonrpc_span(scan, p, 2, &out->meta);
    }
    uint32_t start = (uint32_t)(p - scan->start);
    const char *past = NULL;
    for (int i = 0; i < scan->hint_count; i++) {
        const meta_hint_t *hint = &scan->hints[i];
        if ((size_t)(scan->end - p) >= hint->size && memcmp(p, hint->data, hint->size) == 0) {
            out->meta_hit = i;
            out->version = hint->version;
            out->version.start += start;
            out->progress_token = hint->progress_token;
            out->progress_token.start += start;
            past = p + hint->size;
            break;
        }
    }
    if (past == NULL) {
        past = jsonrpc_members(scan, p, 2, jsonrpc_meta_member);
    }
    if (past != NULL) {
        out->meta.start = start;
        out->meta.size = (uint32_t)(past - p);
    }
    return past;
}

/* --- params --- */

static inline const char *jsonrpc_params_member(jsonrpc_scan_t *scan, const char *key, size_t n, const char *value) {
    if (JSONRPC_IS(key, n, "name")) {
        jsonrpc_note(scan, SEEN_NAME);
        return jsonrpc_text(scan, value, 2, &scan->out->name);
    }
    if (JSONRPC_IS(key, n, "arguments")) {
        jsonrpc_note(scan, SEEN_ARGUMENTS);
        return jsonrpc_span(scan, value, 2, &scan->out->arguments);
    }
    if (JSONRPC_IS(key, n, "_meta")) {
        jsonrpc_note(scan, SEEN_META);
        return jsonrpc_meta(scan, value);
    }
    if (JSONRPC_IS(key, n, "uri")) {
        jsonrpc_note(scan, SEEN_URI);
        return jsonrpc_text(scan, value, 2, &scan->out->uri);
    }
    return json_skip(value, scan->end, scan->limits, 2, &scan->fail);
}

static const char *jsonrpc_params(jsonrpc_scan_t *scan, const char *p) {
    span_t *span = &scan->out->params;
    if (p == scan->end || *p != '{') {
        return jsonrpc_span(scan, p, 1, span);
    }
    const char *past = jsonrpc_members(scan, p, 1, jsonrpc_params_member);
    if (past != NULL) {
        span->start = (uint32_t)(p - scan->start);
        span->size = (uint32_t)(past - p);
    }
    return past;
}

/* --- the message --- */

static const char *jsonrpc_id(jsonrpc_scan_t *scan, const char *p) {
    envelope_t *out = scan->out;
    int whole = 0;
    const char *past;
    if (p < scan->end && (*p == '-' || (unsigned char)(*p - '0') <= 9)) {
        past = json_skip_number(p, scan->end, scan->limits, &whole, &scan->fail);
        out->id_kind = whole ? JSONRPC_ID_INT : JSONRPC_ID_BAD;
    } else {
        past = json_skip(p, scan->end, scan->limits, 1, &scan->fail);
        out->id_kind = past == NULL ? JSONRPC_ID_NONE
                       : *p == '"'  ? JSONRPC_ID_STRING
                       : *p == 'n'  ? JSONRPC_ID_NULL
                                    : JSONRPC_ID_BAD;
    }
    if (past == NULL) {
        out->id_kind = JSONRPC_ID_NONE;
        return NULL;
    }
    if (past - p > JSONRPC_ID_BYTES_MAX) {
        out->id_kind = JSONRPC_ID_BAD;
    }
    out->id.start = (uint32_t)(p - scan->start);
    out->id.size = (uint32_t)(past - p);
    return past;
}

static const char *jsonrpc_version(jsonrpc_scan_t *scan, const char *p) {
    text_span_t text = {0, 0, 0};
    char plain[32];
    if (JSON_LIKELY(scan->end - p > 5 && memcmp(p, "\"2.0\"", 5) == 0)) {
        scan->is_version_2 = 1;
        return p + 5;
    }
    p = jsonrpc_text(scan, p, 1, &text);
    if (p != NULL && text.state == JSONRPC_TEXT_ESCAPED && text.size < sizeof(plain)) {
        size_t n = json_unescape(scan->start + text.start, text.size, plain);
        scan->is_version_2 = JSONRPC_IS(plain, n, "2.0");
    }
    return p;
}

static inline const char *jsonrpc_top_member(jsonrpc_scan_t *scan, const char *key, size_t n, const char *value) {
    envelope_t *out = scan->out;
    if (JSONRPC_IS(key, n, "jsonrpc")) {
        jsonrpc_note(scan, SEEN_JSONRPC);
        return jsonrpc_version(scan, value);
    }
    if (JSONRPC_IS(key, n, "id")) {
        jsonrpc_note(scan, SEEN_ID);
        return jsonrpc_id(scan, value);
    }
    if (JSONRPC_IS(key, n, "method")) {
        jsonrpc_note(scan, SEEN_METHOD);
        return jsonrpc_text(scan, value, 1, &out->method);
    }
    if (JSONRPC_IS(key, n, "params")) {
        jsonrpc_note(scan, SEEN_PARAMS);
        return jsonrpc_params(scan, value);
    }
    if (JSONRPC_IS(key, n, "result")) {
        jsonrpc_note(scan, SEEN_RESULT);
        return jsonrpc_span(scan, value, 1, &out->result);
    }
    if (JSONRPC_IS(key, n, "error")) {
        jsonrpc_note(scan, SEEN_ERROR);
        return jsonrpc_span(scan, value, 1, &out->error);
    }
    return json_skip(value, scan->end, scan->limits, 1, &scan->fail);
}

static int jsonrpc_invalid(jsonrpc_scan_t *scan, int code, const char *message, const char *at) {
    envelope_t *out = scan->out;
    int is_id = out->id_kind == JSONRPC_ID_INT || out->id_kind == JSONRPC_ID_STRING;
    out->kind = JSONRPC_INVALID;
    out->meta_hit = -1;
    out->code = code;
    out->message = message;
    out->at = (uint32_t)(at - scan->start);
    out->is_response = code != -32700 && (scan->seen & (SEEN_RESULT | SEEN_ERROR)) && !(scan->seen & SEEN_METHOD);
    if (code == -32700 || (scan->twice & SEEN_ID)) {
        out->id_kind = JSONRPC_ID_NONE;
        is_id = 0;
    }
    if (!is_id) {
        out->id.start = out->id.size = 0;
    }
    return JSONRPC_INVALID;
}

static int jsonrpc_failed(jsonrpc_scan_t *scan) {
    static const char *const messages[] = {
        [JSON_E_END] = "Parse error: the text ends within a value",
        [JSON_E_VALUE] = "Parse error: expected a value",
        [JSON_E_CONTROL] = "Parse error: control character in a string",
        [JSON_E_ESCAPE] = "Parse error: bad escape in a string",
        [JSON_E_SURROGATE] = "Parse error: lone surrogate escape in a string",
        [JSON_E_UTF8] = "Parse error: invalid UTF-8",
        [JSON_E_KEY] = "Parse error: expected a key in quotes",
        [JSON_E_COLON] = "Parse error: expected a colon",
        [JSON_E_COMMA] = "Parse error: expected a comma or a closing bracket",
        [JSON_E_TRAILING] = "Parse error: expected the end of the text",
        [JSON_L_DEPTH] = "Invalid Request: limit depth_max exceeded",
        [JSON_L_STRING] = "Invalid Request: limit string_bytes_max exceeded",
        [JSON_L_NUMBER] = "Invalid Request: limit number_bytes_max exceeded",
    };
    int code = scan->fail.code >= JSON_L_DEPTH ? -32600 : -32700;
    return jsonrpc_invalid(scan, code, messages[scan->fail.code], scan->fail.at);
}

/* What is wrong with the shape of a message that is JSON, or NULL. */
static const char *jsonrpc_shape(const jsonrpc_scan_t *scan) {
    const envelope_t *out = scan->out;
    uint32_t seen = scan->seen;
    if (scan->twice & SEEN_TOP) {
        return "Invalid Request: a key of the message stands there twice";
    }
    if (!scan->is_version_2) {
        return "Invalid Request: jsonrpc must be \"2.0\"";
    }
    if (out->id_kind == JSONRPC_ID_BAD) {
        return "Invalid Request: id must be a string or an integer of at most 1024 bytes";
    }
    if (seen & SEEN_METHOD) {
        if (out->method.state == JSONRPC_TEXT_OTHER) {
            return "Invalid Request: method must be a string";
        }
        if (seen & (SEEN_RESULT | SEEN_ERROR)) {
            return "Invalid Request: method together with result or error";
        }
        if (out->id_kind == JSONRPC_ID_NULL) {
            return "Invalid Request: id must not be null";
        }
        if ((seen & SEEN_PARAMS) && scan->start[out->params.start] != '{' && scan->start[out->params.start] != '[') {
            return "Invalid Request: params must be an object or an array";
        }
        if (scan->twice) {
            return "Invalid Request: a key of params stands there twice";
        }
        return NULL;
    }
    if (!(seen & (SEEN_RESULT | SEEN_ERROR))) {
        return "Invalid Request: neither method, result nor error";
    }
    if ((seen & SEEN_RESULT) && (seen & SEEN_ERROR)) {
        return "Invalid Request: result together with error";
    }
    if ((seen & SEEN_ERROR) && scan->start[out->error.start] != '{') {
        return "Invalid Request: error must be an object";
    }
    if ((seen & SEEN_RESULT) && out->id_kind != JSONRPC_ID_INT && out->id_kind != JSONRPC_ID_STRING) {
        return "Invalid Request: a result must have an id";
    }
    return NULL;
}

static int jsonrpc_batch(jsonrpc_scan_t *scan, const char *p) {
    const char *end = scan->end;
    p = json_skip_blank(p + 1, end);
    if (p < end && *p == ']') {
        p = json_skip_blank(p + 1, end);
        if (p != end) {
            json_fail_at(&scan->fail, JSON_E_TRAILING, p);
            return jsonrpc_failed(scan);
        }
        return jsonrpc_invalid(scan, -32600, "Invalid Request: an empty batch", scan->start);
    }
    for (;;) {
        p = json_skip(p, end, scan->limits, 1, &scan->fail);
        if (p == NULL) {
            return jsonrpc_failed(scan);
        }
        scan->out->item_count++;
        p = json_skip_blank(p, end);
        if (p < end && *p == ',') {
            p = json_skip_blank(p + 1, end);
            continue;
        }
        if (p == end || *p != ']') {
            json_fail_at(&scan->fail, p == end ? JSON_E_END : JSON_E_COMMA, p);
            return jsonrpc_failed(scan);
        }
        p = json_skip_blank(p + 1, end);
        if (p != end) {
            json_fail_at(&scan->fail, JSON_E_TRAILING, p);
            return jsonrpc_failed(scan);
        }
        return scan->out->kind = JSONRPC_BATCH;
    }
}

/* The members of the message at p. Most messages begin with the same 22 bytes, which one comparison takes. */
static const char *jsonrpc_top(jsonrpc_scan_t *scan, const char *p) {
    static const char head[22] = "{\"jsonrpc\":\"2.0\",\"id\":";
    if (JSON_LIKELY(scan->end - p > JSON_AHEAD + (ptrdiff_t)sizeof(head) && memcmp(p, head, sizeof(head)) == 0 &&
                    scan->limits->string_bytes_max >= JSON_AHEAD)) {
        const char *past = jsonrpc_id(scan, json_skip_blank(p + sizeof(head), scan->end));
        if (JSON_UNLIKELY(past == NULL)) {
            return NULL;
        }
        if (JSON_LIKELY(past < scan->end - 1 && past[0] == ',' && past[1] == '"')) {
            scan->seen = SEEN_JSONRPC | SEEN_ID;
            scan->is_version_2 = 1;
            return jsonrpc_members_from(scan, past + 1, jsonrpc_top_member);
        }
    }
    return jsonrpc_members(scan, p, 0, jsonrpc_top_member);
}

static int jsonrpc_object(jsonrpc_scan_t *scan, const char *p) {
    envelope_t *out = scan->out;
    p = jsonrpc_top(scan, p);
    if (p != NULL) {
        p = json_skip_blank(p, scan->end);
        if (p != scan->end) {
            json_fail_at(&scan->fail, JSON_E_TRAILING, p);
            p = NULL;
        }
    }
    if (p == NULL) {
        return jsonrpc_failed(scan);
    }
    const char *wrong = jsonrpc_shape(scan);
    if (wrong != NULL) {
        return jsonrpc_invalid(scan, -32600, wrong, scan->start);
    }
    if (scan->seen & SEEN_METHOD) {
        return out->kind = out->id_kind == JSONRPC_ID_NONE ? JSONRPC_NOTIFICATION : JSONRPC_REQUEST;
    }
    return out->kind = scan->seen & SEEN_RESULT ? JSONRPC_RESULT : JSONRPC_ERROR;
}

static int jsonrpc_scan(const char *p, size_t n, const json_limits_t *limits, const meta_hint_t *hints, int hint_count,
                        envelope_t *out) {
    jsonrpc_scan_t scan = {
        .start = p, .end = p + n, .limits = limits, .hints = hints, .hint_count = hint_count, .out = out};
    memset(out, 0, sizeof(*out));
    out->meta_hit = -1;
    if (JSON_UNLIKELY(n > UINT32_MAX)) {
        return jsonrpc_invalid(&scan, -32600, "Invalid Request: limit message_bytes_max exceeded", p);
    }
    p = json_skip_blank(p, scan.end);
    if (JSON_LIKELY(p < scan.end && *p == '{')) {
        return jsonrpc_object(&scan, p);
    }
    if (p < scan.end && *p == '[') {
        return jsonrpc_batch(&scan, p);
    }
    p = json_skip(p, scan.end, limits, 0, &scan.fail);
    if (p != NULL) {
        p = json_skip_blank(p, scan.end);
        if (p == scan.end) {
            return jsonrpc_invalid(&scan, -32600, "Invalid Request: a message must be an object", scan.start);
        }
        json_fail_at(&scan.fail, JSON_E_TRAILING, p);
    }
    return jsonrpc_failed(&scan);
}

/* The text was accepted before, so what a value is ends where the brackets balance, outside of strings. */
static int jsonrpc_batch_next(const char *p, size_t n, uint32_t *cursor, span_t *item) {
    json_limits_t limits = {JSON_DEPTH_CEILING, UINT32_MAX, SIZE_MAX};
    json_fail_t fail;
    const char *start = p, *end = p + n;
    p = json_skip_blank(p + *cursor, end);
    if (p == end || *p == ']') {
        return 0;
    }
    p = json_skip_blank(p + 1, end); /* past the bracket or the comma */
    const char *past = json_skip(p, end, &limits, 0, &fail);
    if (past == NULL) {
        return 0;
    }
    item->start = (uint32_t)(p - start);
    item->size = (uint32_t)(past - p);
    *cursor = (uint32_t)(past - start);
    return 1;
}

static void jsonrpc_remember(const envelope_t *scanned, const char *data, meta_hint_t *hint) {
    hint->data = data;
    hint->size = scanned->meta.size;
    hint->version = scanned->version;
    hint->version.start -= scanned->meta.start;
    hint->progress_token = scanned->progress_token;
    hint->progress_token.start -= scanned->meta.start;
}

#endif
