/* Heads of HTTP/1.1 messages (RFC 9112, RFC 9110), read strictly in one pass from left to right.
 *
 * Every rule here refuses what two implementations are known to read in different ways, as that is what request
 * smuggling lives on. Order of errors: the grammar from left to right; then, over the whole head, Host,
 * Transfer-Encoding, Content-Length, Expect, and the size of the body. */
#ifndef ERLMCP_HTTP1_HEAD_H
#define ERLMCP_HTTP1_HEAD_H

#include "http1_scan.h"

typedef struct {
    uint32_t start;
    uint32_t size;
} http1_span_t;

typedef struct {
    http1_span_t name;
    http1_span_t value;
} http1_field_t;

typedef struct {
    uint32_t head_bytes_max;
    uint32_t header_count_max;
    uint64_t body_bytes_max;
} http1_limits_t;

enum {
    HTTP1_HOST,
    HTTP1_ORIGIN,
    HTTP1_CONTENT_TYPE,
    HTTP1_CONTENT_LENGTH,
    HTTP1_ACCEPT,
    HTTP1_AUTHORIZATION,
    HTTP1_MCP_SESSION_ID,
    HTTP1_MCP_PROTOCOL_VERSION,
    HTTP1_MCP_METHOD,
    HTTP1_MCP_NAME,
    HTTP1_LAST_EVENT_ID,
    HTTP1_CONNECTION,
    HTTP1_TRANSFER_ENCODING,
    HTTP1_EXPECT,
    HTTP1_UPGRADE,
    HTTP1_KNOWN_COUNT
};

enum {
    HTTP1_FLAG_CHUNKED = 1,
    HTTP1_FLAG_KEEP_ALIVE = 2,
    HTTP1_FLAG_EXPECT_CONTINUE = 4,
    HTTP1_FLAG_HAS_HOST = 8,
    HTTP1_FLAG_CONN_CLOSE = 16,
    HTTP1_FLAG_UPGRADE = 32,
    /* While parsing only. */
    HTTP1_FLAG_CONN_KEEP = 64,
    HTTP1_FLAG_CONN_UPGRADE = 128,
    HTTP1_FLAG_EXPECT_OTHER = 256,
    HTTP1_FLAGS_PUBLIC = 63
};

enum { HTTP1_BODY_NONE, HTTP1_BODY_LENGTH, HTTP1_BODY_CHUNKED, HTTP1_BODY_UNTIL_CLOSE };

enum { HTTP1_MORE = -1 };

#define HTTP1_LENGTH_MAX (INT64_C(1) << 62)

typedef struct {
    http1_field_t* fields;
    uint32_t field_count;
    uint32_t head_bytes;
    int32_t version;
    int32_t status;
    uint32_t flags;
    uint32_t repeated;
    int64_t content_length;
    http1_span_t method;
    http1_span_t target;
    http1_span_t reason;
    http1_span_t known[16];
    const char* message;
} http1_head_t;

HTTP1_ALWAYS_INLINE int http1_refuse(http1_head_t* out, int status, const char* message) {
    out->message = message;
    return status;
}

HTTP1_ALWAYS_INLINE http1_span_t http1_span(size_t start, size_t end) {
    http1_span_t span = {(uint32_t)start, (uint32_t)(end - start)};
    return span;
}

static inline void http1_reset(http1_head_t* out) {
    http1_field_t* fields = out->fields;
    memset(out, 0, sizeof *out);
    out->fields = fields;
    out->content_length = -1;
}

/* A blank line ends a head: LF CRLF. LF LF is taken as an end as well, so that a peer with bare LFs is told at once. */
static inline size_t http1_find_head_end(const char* p, size_t n, size_t* scanned) {
    size_t i = *scanned;
    while (i < n) {
        const char* found = (const char*)memchr(p + i, '\n', n - i);
        if (found == NULL) {
            break;
        }
        i = (size_t)(found - p) + 1;
        if (i < n && p[i] == '\n') {
            return i + 1;
        }
        if (i + 1 < n && p[i] == '\r' && p[i + 1] == '\n') {
            return i + 2;
        }
        if (i + 2 > n) {
            i--; /* what follows this LF is not all here: look at it again */
            break;
        }
    }
    *scanned = i < n ? i : n;
    return 0;
}

/* Which of the fields that erlmcp reads is this name (token characters only)? HTTP1_KNOWN_COUNT: none of them. */
HTTP1_ALWAYS_INLINE int http1_known(const char* p, size_t n) {
    switch (n) {
    case 4:
        return HTTP1_SAME(p, "host") ? HTTP1_HOST : HTTP1_KNOWN_COUNT;
    case 6:
        return HTTP1_SAME(p, "accept")   ? HTTP1_ACCEPT
               : HTTP1_SAME(p, "origin") ? HTTP1_ORIGIN
               : HTTP1_SAME(p, "expect") ? HTTP1_EXPECT
                                         : HTTP1_KNOWN_COUNT;
    case 7:
        return HTTP1_SAME(p, "upgrade") ? HTTP1_UPGRADE : HTTP1_KNOWN_COUNT;
    case 8:
        return HTTP1_SAME(p, "mcp-name") ? HTTP1_MCP_NAME : HTTP1_KNOWN_COUNT;
    case 10:
        return HTTP1_SAME(p, "connection")   ? HTTP1_CONNECTION
               : HTTP1_SAME(p, "mcp-method") ? HTTP1_MCP_METHOD
                                             : HTTP1_KNOWN_COUNT;
    case 12:
        return HTTP1_SAME(p, "content-type") ? HTTP1_CONTENT_TYPE : HTTP1_KNOWN_COUNT;
    case 13:
        return HTTP1_SAME(p, "authorization")   ? HTTP1_AUTHORIZATION
               : HTTP1_SAME(p, "last-event-id") ? HTTP1_LAST_EVENT_ID
                                                : HTTP1_KNOWN_COUNT;
    case 14:
        return HTTP1_SAME(p, "content-length")   ? HTTP1_CONTENT_LENGTH
               : HTTP1_SAME(p, "mcp-session-id") ? HTTP1_MCP_SESSION_ID
                                                 : HTTP1_KNOWN_COUNT;
    case 17:
        return HTTP1_SAME(p, "transfer-encoding") ? HTTP1_TRANSFER_ENCODING : HTTP1_KNOWN_COUNT;
    case 20:
        return HTTP1_SAME(p, "mcp-protocol-version") ? HTTP1_MCP_PROTOCOL_VERSION : HTTP1_KNOWN_COUNT;
    default:
        return HTTP1_KNOWN_COUNT;
    }
}

static inline uint32_t http1_connection_flags(const char* p, size_t n) {
    uint32_t flags = 0;
    size_t i = 0, start, size;
    while (http1_next_member(p, n, &i, &start, &size)) {
        const char* token = p + start;
        if (size == 10 && HTTP1_SAME(token, "keep-alive")) {
            flags |= HTTP1_FLAG_CONN_KEEP;
        } else if (size == 5 && HTTP1_SAME(token, "close")) {
            flags |= HTTP1_FLAG_CONN_CLOSE;
        } else if (size == 7 && HTTP1_SAME(token, "upgrade")) {
            flags |= HTTP1_FLAG_CONN_UPGRADE;
        }
    }
    return flags;
}

/* Take note of a known field. */
HTTP1_ALWAYS_INLINE void http1_note(http1_head_t* out, const char* p, http1_field_t field) {
    int known = http1_known(p + field.name.start, field.name.size);
    if (known == HTTP1_KNOWN_COUNT) {
        return;
    }
    if (out->known[known].start) {
        out->repeated |= 1u << known;
    } else {
        out->known[known] = field.value;
    }
    const char* value = p + field.value.start;
    if (known == HTTP1_CONNECTION) {
        out->flags |= http1_connection_flags(value, field.value.size);
    } else if (known == HTTP1_EXPECT) {
        int is_continue = field.value.size == 12 && HTTP1_SAME(value, "100-continue");
        out->flags |= is_continue ? HTTP1_FLAG_EXPECT_CONTINUE : HTTP1_FLAG_EXPECT_OTHER;
    }
}

/* What is wrong with the byte that ended a field name. */
static inline int http1_refuse_name(http1_head_t* out, const char* p, size_t start, size_t i) {
    if (p[start] == ' ' || p[start] == '\t') {
        return http1_refuse(out, 400, "a header line starts with a blank (obsolete line folding)");
    }
    if (p[start] == ':') {
        return http1_refuse(out, 400, "a header has no name");
    }
    if (p[i] == ' ' || p[i] == '\t') {
        return http1_refuse(out, 400, "a blank stands before the colon of a header");
    }
    return http1_refuse(out, 400, "a header name holds a byte that is not allowed, or its colon is missing");
}

/* The field lines from p[i] on, and the blank line after them. 0, HTTP1_MORE or a status. */
HTTP1_ALWAYS_INLINE int http1_parse_fields(
    const char* p, size_t n, size_t i, const http1_limits_t* limits, http1_head_t* out) {
    for (;;) {
        if (i >= n) {
            return HTTP1_MORE;
        }
        if (p[i] == '\r') {
            if (i + 1 >= n) {
                return HTTP1_MORE;
            }
            if (p[i + 1] != '\n') {
                return http1_refuse(out, 400, "a CR without its LF");
            }
            out->head_bytes = (uint32_t)(i + 2);
            return 0;
        }
        size_t start = i;
        i = http1_skip(p, i, n, HTTP1_IS_TCHAR);
        if (i >= n) {
            return HTTP1_MORE;
        }
        if (p[i] != ':' || i == start) {
            return http1_refuse_name(out, p, start, i);
        }
        if (out->field_count == limits->header_count_max) {
            return http1_refuse(out, 431, "header_count_max exceeded");
        }
        http1_field_t field;
        field.name = http1_span(start, i);
        i++;
        while (i < n && (p[i] == ' ' || p[i] == '\t')) {
            i++;
        }
        size_t value = i;
        i = http1_skip_value(p, i, n);
        if (i + 1 >= n) {
            if (i >= n || p[i] == '\r') {
                return HTTP1_MORE;
            }
            return http1_refuse(out, 400, "a header value holds a control character or a bare LF");
        }
        if (p[i] != '\r' || p[i + 1] != '\n') {
            return http1_refuse(out, 400, "a header value holds a control character, a bare CR or a bare LF");
        }
        size_t end = i;
        while (end > value && (p[end - 1] == ' ' || p[end - 1] == '\t')) {
            end--;
        }
        i += 2;
        field.value = http1_span(value, end);
        if (out->fields != NULL) {
            out->fields[out->field_count] = field;
        }
        out->field_count++;
        http1_note(out, p, field);
    }
}

/* "HTTP/1.1" or "HTTP/1.0" at p[i]: 0, HTTP1_MORE or a status. */
HTTP1_ALWAYS_INLINE int http1_parse_version(const char* p, size_t n, size_t i, http1_head_t* out) {
    if (n - i < 8) {
        return HTTP1_MORE;
    }
    if (memcmp(p + i, "HTTP/1.1", 8) == 0) {
        out->version = 11;
        return 0;
    }
    if (memcmp(p + i, "HTTP/1.0", 8) == 0) {
        out->version = 10;
        return 0;
    }
    if (memcmp(p + i, "HTTP/", 5) != 0 || p[i + 6] != '.' || p[i + 5] < '0' || p[i + 5] > '9' || p[i + 7] < '0' ||
        p[i + 7] > '9') {
        return http1_refuse(out, 400, "expected the version as HTTP/1.1 or HTTP/1.0");
    }
    return http1_refuse(out, 505, "this HTTP version is not served; expected HTTP/1.1 or HTTP/1.0");
}

/* Transfer-Encoding and Content-Length: 0 or a status. RFC 9112, section 6. */
static inline int http1_settle_length(const char* p, http1_head_t* out) {
    http1_span_t coding = out->known[HTTP1_TRANSFER_ENCODING], length = out->known[HTTP1_CONTENT_LENGTH];
    if (coding.start) {
        if (length.start) {
            return http1_refuse(out, 400, "Transfer-Encoding together with Content-Length");
        }
        if (out->repeated >> HTTP1_TRANSFER_ENCODING & 1) {
            return http1_refuse(out, 400, "more than one Transfer-Encoding");
        }
        if (out->version != 11) {
            return http1_refuse(out, 400, "Transfer-Encoding needs HTTP/1.1");
        }
        if (coding.size != 7 || !HTTP1_SAME(p + coding.start, "chunked")) {
            return http1_refuse(out, 501, "the only transfer coding that is served is chunked");
        }
        out->flags |= HTTP1_FLAG_CHUNKED;
    }
    if (!length.start) {
        return 0;
    }
    if (out->repeated >> HTTP1_CONTENT_LENGTH & 1) {
        return http1_refuse(out, 400, "more than one Content-Length");
    }
    int64_t value = 0;
    int is_huge = 0;
    for (size_t i = length.start; i < (size_t)length.start + length.size; i++) {
        unsigned digit = (unsigned)(uint8_t)p[i] - '0';
        if (digit > 9) {
            return http1_refuse(out, 400, "Content-Length is not a number of decimal digits");
        }
        if (value > (HTTP1_LENGTH_MAX - (int64_t)digit) / 10) {
            is_huge = 1;
        } else {
            value = value * 10 + (int64_t)digit;
        }
    }
    if (length.size == 0) {
        return http1_refuse(out, 400, "Content-Length is not a number of decimal digits");
    }
    if (is_huge) {
        return http1_refuse(out, 413, "Content-Length is over any limit");
    }
    out->content_length = value;
    return 0;
}

static inline void http1_settle_flags(http1_head_t* out) {
    uint32_t flags = out->flags;
    if (!(flags & HTTP1_FLAG_CONN_CLOSE) && (out->version == 11 || (flags & HTTP1_FLAG_CONN_KEEP))) {
        flags |= HTTP1_FLAG_KEEP_ALIVE;
    }
    if ((flags & HTTP1_FLAG_CONN_UPGRADE) && out->known[HTTP1_UPGRADE].start) {
        flags |= HTTP1_FLAG_UPGRADE;
    }
    if (out->version == 10) {
        flags &= ~(uint32_t)HTTP1_FLAG_EXPECT_CONTINUE; /* RFC 9110, section 10.1.1 */
    }
    out->flags = flags & HTTP1_FLAGS_PUBLIC;
}

/* What can only be told when the whole head of a request was read: 0 or a status. */
static inline int http1_settle_request(const char* p, const http1_limits_t* limits, http1_head_t* out) {
    http1_span_t host = out->known[HTTP1_HOST];
    if (host.start) {
        if (out->repeated >> HTTP1_HOST & 1) {
            return http1_refuse(out, 400, "more than one Host");
        }
        size_t end = (size_t)host.start + host.size;
        if (http1_skip(p, host.start, end, HTTP1_IS_HOST) != end) {
            return http1_refuse(out, 400, "Host holds a byte that is not allowed");
        }
        out->flags |= HTTP1_FLAG_HAS_HOST;
    } else if (out->version == 11) {
        return http1_refuse(out, 400, "HTTP/1.1 needs a Host");
    }
    int status = http1_settle_length(p, out);
    if (status) {
        return status;
    }
    if (out->flags & HTTP1_FLAG_EXPECT_OTHER) {
        return http1_refuse(out, 417, "the only expectation that is served is 100-continue");
    }
    http1_settle_flags(out);
    if (out->content_length > 0 && (uint64_t)out->content_length > limits->body_bytes_max) {
        return http1_refuse(out, 413, "body_bytes_max exceeded");
    }
    return 0;
}

static inline int http1_parse_request_head(
    const char* p, size_t n, const http1_limits_t* limits, http1_head_t* out) {
    http1_reset(out);
    size_t i = 0;
    if (n > 0 && p[0] == '\r') { /* one blank line before a request is passed over: RFC 9112, section 2.2 */
        if (n < 2) {
            return HTTP1_MORE;
        }
        if (p[1] != '\n') {
            return http1_refuse(out, 400, "a CR without its LF");
        }
        i = 2;
    }
    size_t start = i;
    i = http1_skip(p, i, n, HTTP1_IS_TCHAR);
    if (i >= n) {
        return HTTP1_MORE;
    }
    if (p[i] != ' ' || i == start) {
        return http1_refuse(out, 400, "expected a method and one blank");
    }
    out->method = http1_span(start, i);
    start = ++i;
    i = http1_skip_target(p, i, n);
    if (i >= n) {
        return HTTP1_MORE;
    }
    if (p[i] != ' ' || i == start) {
        return http1_refuse(out, 400, "expected a target of visible ASCII, one blank and the version");
    }
    out->target = http1_span(start, i);
    i++;
    int status = http1_parse_version(p, n, i, out);
    if (status) {
        return status;
    }
    i += 8;
    if (n - i < 2) {
        return HTTP1_MORE;
    }
    if (p[i] != '\r' || p[i + 1] != '\n') {
        return http1_refuse(out, 400, "expected CRLF after the version");
    }
    status = http1_parse_fields(p, n, i + 2, limits, out);
    return status ? status : http1_settle_request(p, limits, out);
}

static inline int http1_parse_response_head(
    const char* p, size_t n, const http1_limits_t* limits, http1_head_t* out) {
    http1_reset(out);
    int status = http1_parse_version(p, n, 0, out);
    if (status) {
        return status;
    }
    if (n < 13) {
        return HTTP1_MORE;
    }
    const uint8_t* digits = (const uint8_t*)p + 9;
    unsigned hundreds = digits[0] - '0', tens = digits[1] - '0', ones = digits[2] - '0';
    if (p[8] != ' ' || hundreds < 1 || hundreds > 5 || tens > 9 || ones > 9) {
        return http1_refuse(out, 400, "expected a status from 100 to 599 of three digits");
    }
    out->status = (int32_t)(hundreds * 100 + tens * 10 + ones);
    size_t i = 12; /* the blank before an empty reason is often left out, and a client lets it pass */
    if (p[i] == ' ') {
        i = http1_skip_value(p, i + 1, n);
        out->reason = http1_span(13, i);
    }
    if (i >= n || (i + 1 >= n && p[i] == '\r')) {
        return HTTP1_MORE;
    }
    if (p[i] != '\r' || p[i + 1] != '\n') {
        return http1_refuse(out, 400, "expected a reason phrase and CRLF after the status");
    }
    status = http1_parse_fields(p, n, i + 2, limits, out);
    if (status == 0) {
        status = http1_settle_length(p, out);
        http1_settle_flags(out);
    }
    return status;
}

typedef int (*http1_parse_t)(const char*, size_t, const http1_limits_t*, http1_head_t*);

HTTP1_ALWAYS_INLINE int http1_take_head(
    http1_parse_t parse, const char* p, size_t n, size_t* scanned, const http1_limits_t* limits, http1_head_t* out) {
    size_t window = n < limits->head_bytes_max ? n : limits->head_bytes_max;
    if (*scanned == 0) { /* first look: nearly always the whole head is here, so parse without searching its end */
        if (parse(p, window, limits, out) == 0) {
            return 0;
        }
    }
    size_t end = http1_find_head_end(p, window, scanned);
    if (end == 0 && n < limits->head_bytes_max) {
        return HTTP1_MORE;
    }
    int status = parse(p, end ? end : window, limits, out);
    if (status != HTTP1_MORE) {
        return status;
    }
    if (end) {
        return http1_refuse(out, 400, "the head ends within a line");
    }
    return memchr(p, '\n', window) == NULL ? http1_refuse(out, 414, "head_bytes_max exceeded by the first line")
                                           : http1_refuse(out, 431, "head_bytes_max exceeded");
}

static inline int http1_take_request_head(
    const char* p, size_t n, size_t* scanned, const http1_limits_t* limits, http1_head_t* out) {
    return http1_take_head(http1_parse_request_head, p, n, scanned, limits, out);
}

static inline int http1_take_response_head(
    const char* p, size_t n, size_t* scanned, const http1_limits_t* limits, http1_head_t* out) {
    int status = http1_take_head(http1_parse_response_head, p, n, scanned, limits, out);
    return status == 414 ? 431 : status;
}

static inline size_t http1_match_head(
    const char* old, size_t old_bytes, http1_span_t length, const char* p, size_t n, int64_t* content_length) {
    if (!length.start) {
        *content_length = -1;
        return n >= old_bytes && memcmp(old, p, old_bytes) == 0 ? old_bytes : 0;
    }
    size_t i = length.start, rest = (size_t)length.start + length.size;
    if (n < i || memcmp(old, p, i) != 0) {
        return 0;
    }
    int64_t value = 0;
    while (i < n && p[i] >= '0' && p[i] <= '9') {
        if (i - length.start == 18) {
            return 0;
        }
        value = value * 10 + (p[i] - '0');
        i++;
    }
    if (i == length.start || n - i < old_bytes - rest || memcmp(old + rest, p + i, old_bytes - rest) != 0) {
        return 0;
    }
    *content_length = value;
    return i + (old_bytes - rest);
}

static inline int http1_body_kind(const http1_head_t* head, int is_head_request) {
    if (is_head_request || head->status < 200 || head->status == 204 || head->status == 304) {
        return HTTP1_BODY_NONE;
    }
    if (head->flags & HTTP1_FLAG_CHUNKED) {
        return HTTP1_BODY_CHUNKED;
    }
    return head->content_length >= 0 ? HTTP1_BODY_LENGTH : HTTP1_BODY_UNTIL_CLOSE;
}

#include "http1_chunk.h"

#endif
