"""URI templates: RFC 6570's own examples, matching, and what matching must refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.errors import ConfigurationError
from erlmcp.server.uri import URI_CHARS_MAX, UriTemplate

# RFC 6570, section 3.2: the variables of all its examples.
VALUES: dict[str, Any] = {
    "count": ["one", "two", "three"],
    "dom": ["example", "com"],
    "dub": "me/too",
    "hello": "Hello World!",
    "half": "50%",
    "var": "value",
    "who": "fred",
    "base": "http://example.com/home/",
    "path": "/foo/bar",
    "list": ["red", "green", "blue"],
    "keys": {"semi": ";", "dot": ".", "comma": ","},
    "v": "6",
    "x": "1024",
    "y": "768",
    "empty": "",
    "empty_keys": {},
    "undef": None,
}
EXAMPLES = {
    "{count}": "one,two,three",
    "{count*}": "one,two,three",
    "{/count}": "/one,two,three",
    "{/count*}": "/one/two/three",
    "{;count}": ";count=one,two,three",
    "{;count*}": ";count=one;count=two;count=three",
    "{?count}": "?count=one,two,three",
    "{?count*}": "?count=one&count=two&count=three",
    "{&count*}": "&count=one&count=two&count=three",
    "{var}": "value",
    "{hello}": "Hello%20World%21",
    "{half}": "50%25",
    "O{empty}X": "OX",
    "O{undef}X": "OX",
    "{x,y}": "1024,768",
    "{x,hello,y}": "1024,Hello%20World%21,768",
    "?{x,empty}": "?1024,",
    "?{x,undef}": "?1024",
    "?{undef,y}": "?768",
    "{var:3}": "val",
    "{var:30}": "value",
    "{list}": "red,green,blue",
    "{list*}": "red,green,blue",
    "{keys}": "semi,%3B,dot,.,comma,%2C",
    "{keys*}": "semi=%3B,dot=.,comma=%2C",
    "{+var}": "value",
    "{+hello}": "Hello%20World!",
    "{+half}": "50%25",
    "{base}index": "http%3A%2F%2Fexample.com%2Fhome%2Findex",
    "{+base}index": "http://example.com/home/index",
    "O{+empty}X": "OX",
    "O{+undef}X": "OX",
    "{+path}/here": "/foo/bar/here",
    "here?ref={+path}": "here?ref=/foo/bar",
    "up{+path}{var}/here": "up/foo/barvalue/here",
    "{+x,hello,y}": "1024,Hello%20World!,768",
    "{+path,x}/here": "/foo/bar,1024/here",
    "{+path:6}/here": "/foo/b/here",
    "{+list}": "red,green,blue",
    "{+list*}": "red,green,blue",
    "{+keys}": "semi,;,dot,.,comma,,",
    "{+keys*}": "semi=;,dot=.,comma=,",
    "{#var}": "#value",
    "{#hello}": "#Hello%20World!",
    "{#half}": "#50%25",
    "foo{#empty}": "foo#",
    "foo{#undef}": "foo",
    "{#x,hello,y}": "#1024,Hello%20World!,768",
    "{#path,x}/here": "#/foo/bar,1024/here",
    "{#path:6}/here": "#/foo/b/here",
    "{#list}": "#red,green,blue",
    "{#keys}": "#semi,;,dot,.,comma,,",
    "{#keys*}": "#semi=;,dot=.,comma=,",
    "{.who}": ".fred",
    "{.who,who}": ".fred.fred",
    "{.half,who}": ".50%25.fred",
    "www{.dom*}": "www.example.com",
    "X{.var}": "X.value",
    "X{.empty}": "X.",
    "X{.undef}": "X",
    "X{.var:3}": "X.val",
    "X{.list}": "X.red,green,blue",
    "X{.list*}": "X.red.green.blue",
    "X{.keys}": "X.semi,%3B,dot,.,comma,%2C",
    "X{.keys*}": "X.semi=%3B.dot=..comma=%2C",
    "X{.empty_keys}": "X",
    "X{.empty_keys*}": "X",
    "{/who}": "/fred",
    "{/who,who}": "/fred/fred",
    "{/half,who}": "/50%25/fred",
    "{/who,dub}": "/fred/me%2Ftoo",
    "{/var}": "/value",
    "{/var,empty}": "/value/",
    "{/var,undef}": "/value",
    "{/var,x}/here": "/value/1024/here",
    "{/var:1,var}": "/v/value",
    "{/list}": "/red,green,blue",
    "{/list*}": "/red/green/blue",
    "{/list*,path:4}": "/red/green/blue/%2Ffoo",
    "{/keys}": "/semi,%3B,dot,.,comma,%2C",
    "{/keys*}": "/semi=%3B/dot=./comma=%2C",
    "{;who}": ";who=fred",
    "{;half}": ";half=50%25",
    "{;empty}": ";empty",
    "{;v,empty,who}": ";v=6;empty;who=fred",
    "{;v,bar,who}": ";v=6;who=fred",
    "{;x,y}": ";x=1024;y=768",
    "{;x,y,empty}": ";x=1024;y=768;empty",
    "{;x,y,undef}": ";x=1024;y=768",
    "{;hello:5}": ";hello=Hello",
    "{;list}": ";list=red,green,blue",
    "{;list*}": ";list=red;list=green;list=blue",
    "{;keys}": ";keys=semi,%3B,dot,.,comma,%2C",
    "{;keys*}": ";semi=%3B;dot=.;comma=%2C",
    "{?who}": "?who=fred",
    "{?half}": "?half=50%25",
    "{?x,y}": "?x=1024&y=768",
    "{?x,y,empty}": "?x=1024&y=768&empty=",
    "{?x,y,undef}": "?x=1024&y=768",
    "{?var:3}": "?var=val",
    "{?list}": "?list=red,green,blue",
    "{?list*}": "?list=red&list=green&list=blue",
    "{?keys}": "?keys=semi,%3B,dot,.,comma,%2C",
    "{?keys*}": "?semi=%3B&dot=.&comma=%2C",
    "{&who}": "&who=fred",
    "?fixed=yes{&x}": "?fixed=yes&x=1024",
    "{&x,y,empty}": "&x=1024&y=768&empty=",
    "{&var:3}": "&var=val",
    "{&keys*}": "&semi=%3B&dot=.&comma=%2C",
}


@pytest.mark.parametrize(("template", "uri"), EXAMPLES.items())
def test_the_examples_of_the_rfc_expand_as_it_says(template: str, uri: str) -> None:
    assert UriTemplate(template).expand(**VALUES) == uri


MALFORMED = (
    "{ } {} a{b a}b {a{b}} {a,} {,a} {=a} {!a} {|a} {@a} {a:0} {a:10000} {a*:3} {a:} {a**} {-a} {a-b} {+} {a..b}"
)


@pytest.mark.parametrize("text", [*MALFORMED.split(), "{.a.}", "a b", "{a b}", "a\x00"])
def test_a_malformed_template_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="URI template"):
        UriTemplate(text)


def test_a_prefix_of_a_list_is_refused() -> None:
    with pytest.raises(ValueError, match="prefix"):
        UriTemplate("{list:3}").expand(list=["a"])


def test_variables_are_named_in_order() -> None:
    template = UriTemplate("x://{a}/{b,c}{?d,a}")
    assert template.variables == ("a", "b", "c", "d")
    assert template.optional_variables == {"d", "a"}


MATCHES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("x://users/{id}", "x://users/5", {"id": "5"}),
    ("x://users/{id}", "x://users/", None),
    ("x://users/{id}", "x://users/5/6", None),
    ("x://users/{id}", "x://users/5?q=1", None),
    ("x://users/{id}", "x://users/a%20b%2Fc", {"id": "a b/c"}),
    ("x://users/{id}", "x://users/é", {"id": "é"}),
    ("x://users/{id}", "x://users/%ff", None),
    ("x://users/{id}", "y://users/5", None),
    ("x://a.b/{id}", "x://aXb/1", None),
    ("x://{a}/p/{b}", "x://1/p/2", {"a": "1", "b": "2"}),
    ("x://{a}-{b}", "x://1-2-3", {"a": "1-2", "b": "3"}),
    ("x://{name}.{ext}", "x://a.tar.gz", {"name": "a.tar", "ext": "gz"}),
    ("x://{a,b}", "x://1,2", {"a": "1", "b": "2"}),
    ("x://{a,b}", "x://1,2,3", None),
    ("x://{a}/{a}", "x://1/1", {"a": "1"}),
    ("x://{a}/{a}", "x://1/2", None),
    ("x://{+path}", "x://a/b/c", {"path": "a/b/c"}),
    ("x://{+path}/{id}", "x://a/b/c", {"path": "a/b", "id": "c"}),
    ("x://{+a}/m/{+b}", "x://1/m/2/m/3", {"a": "1/m/2", "b": "3"}),
    ("x://r{/seg*}", "x://r/a/b", {"seg": ["a", "b"]}),
    ("x://r{/seg*}", "x://r", {}),
    ("x://r{/seg*}/end", "x://r/a/end", {"seg": ["a"]}),
    ("x://r{/a,b}", "x://r/1/2", {"a": "1", "b": "2"}),
    ("x://r{/a,b}", "x://r/1", {"a": "1"}),
    ("x://r{/a}", "x://r/1/2", None),
    ("x://f{.ext}", "x://f.json", {"ext": "json"}),
    ("x://f{.ext}", "x://f", {}),
    ("x://f{;v,w}", "x://f;w=2;v=1", {"v": "1", "w": "2"}),
    ("x://f{#frag}", "x://f#a/b", {"frag": "a/b"}),
    ("x://f{#frag}", "x://f", {}),
    ("x://s{?q,lang}", "x://s?lang=de&q=a%20b", {"q": "a b", "lang": "de"}),
    ("x://s{?q,lang}", "x://s?lang=de", {"lang": "de"}),
    ("x://s{?q,lang}", "x://s", {}),
    ("x://s{?q,lang}", "x://s?other=1&q=2", {"q": "2"}),
    ("x://s{?q}", "x://s?q=", {"q": ""}),
    ("x://s{?q}", "x://s?q=1&q=2", {"q": "1"}),
    ("x://s{?q*}", "x://s?q=1&q=2", {"q": ["1", "2"]}),
    ("x://s{?q}", "x://s#frag", None),
    ("x://s{?q}{#f}", "x://s?q=1#frag", {"q": "1", "f": "frag"}),
    ("x://s{?q}{&r}", "x://s?r=2&q=1", {"q": "1", "r": "2"}),
    ("x://s?fixed=1{&q}", "x://s?fixed=1&q=2", {"q": "2"}),
    ("x://s?fixed=1{&q}", "x://s?fixed=1", {}),
    ("x://s?fixed=1{&q}", "x://s?q=2", None),
    ("x://s?id={id}", "x://s?id=5", {"id": "5"}),
    ("x://{id}{?q}", "x://5?q=1", {"id": "5", "q": "1"}),
    ("x://plain", "x://plain", {}),
    ("x://ä/{id}", "x://%c3%a4/1", {"id": "1"}),
]


@pytest.mark.parametrize(("template", "uri", "found"), MATCHES)
def test_a_uri_is_matched_as_the_rules_say(template: str, uri: str, found: dict[str, Any] | None) -> None:
    assert UriTemplate(template).match(uri) == found


def test_a_query_expression_must_stand_last_to_be_matched() -> None:
    template = UriTemplate("x://{?q}/more")
    assert template.expand(q="1") == "x://?q=1/more"
    with pytest.raises(ConfigurationError, match="stand last"):
        template.match("x://?q=1/more")


@pytest.mark.parametrize(
    "value",
    [
        "..",
        "../etc/passwd",
        "a/../b",
        "a/..",
        "/etc/passwd",
        "\\\\host\\share",
        "..\\x",
        "a\\..\\b",
        "C:\\x",
        "c:/x",
        "a\0b",
    ],
)
def test_traversal_is_refused_unless_it_was_allowed(value: str) -> None:
    for text in ("x://d/{name}", "x://d/{+name}", "x://d{/name*}", "x://d{?name}"):
        template = UriTemplate(text)
        given: Any = value.split("/") if "*" in text else value
        uri = template.expand(name=given)
        found = template.match(uri, safe=False)
        assert found is not None
        if "*" in text and value in ("/etc/passwd", "c:/x"):
            continue  # its segments are harmless one by one
        assert template.match(uri) is None, text


@pytest.mark.parametrize("value", ["a..b", "...", "..a", "a.b", "a:b", "a/b", "~"])
def test_harmless_values_are_not_refused(value: str) -> None:
    template = UriTemplate("x://d/{name}")
    assert template.match(template.expand(name=value)) == {"name": value}


TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
RESERVED = st.text("abc/?#[]@!$&'()*+,;=:~.-_é ", min_size=1, max_size=12)


@given(TEXT, TEXT)
def test_simple_variables_come_back_as_they_went_in(a: str, b: str) -> None:
    template = UriTemplate("x://h/{a}/m/{b}")
    assert template.match(template.expand(a=a, b=b), safe=False) == {"a": a, "b": b}


@given(TEXT, TEXT)
def test_variables_of_one_expression_come_back(a: str, b: str) -> None:
    template = UriTemplate("x://h/{a,b}")
    assert template.match(template.expand(a=a, b=b), safe=False) == {"a": a, "b": b}


@given(RESERVED)
def test_reserved_variables_come_back(path: str) -> None:
    for text in ("x://h/{+path}", "x://h/{+path}/tail", "x://h{#path}"):
        template = UriTemplate(text)
        assert template.match(template.expand(path=path), safe=False) == {"path": path}


@given(st.dictionaries(st.sampled_from("abc"), TEXT), st.permutations("abc"))
def test_query_variables_come_back_in_any_order(values: dict[str, str], order: list[str]) -> None:
    template = UriTemplate("x://h{?a,b,c}")
    shuffled = UriTemplate("x://h{?" + ",".join(order) + "}")
    assert template.match(shuffled.expand(**values), safe=False) == values


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_path_segments_come_back(segments: list[str]) -> None:
    template = UriTemplate("x://h{/segments*}")
    assert template.match(template.expand(segments=segments), safe=False) == {"segments": segments}


PIECES = st.lists(
    st.sampled_from(["{a}", "{b}", "{+c}", "{/d}", "{/e*}", "{.f}", "/", "-", ".", "x", "{?q}"]), min_size=1, max_size=5
)


@given(PIECES, st.text("ax/-.?q=#", max_size=12))
def test_matching_never_fails_and_what_it_finds_expands_to_the_uri(pieces: list[str], rest: str) -> None:
    template = UriTemplate("x:" + "".join(pieces))
    uri = "x:" + rest
    try:
        found = template.match(uri, safe=False)
    except ConfigurationError:
        return
    if found is not None and "?" not in uri and "{?q}" not in pieces:
        again = template.match(template.expand(**found), safe=False)
        assert again is not None


def test_an_adversarial_uri_costs_no_more_than_its_length() -> None:
    """Backtracking would need more steps than there are atoms; the bound of this test is that it ends."""
    template = UriTemplate("x:{+a}/{+b}/{+c}/{+d}/{+e}/{+f}/{g}!")
    assert template.match("x:" + "/" * (URI_CHARS_MAX - 10)) is None
    assert UriTemplate("x:{a}-{b}-{c}-{d}-{e}!").match("x:" + "-" * (URI_CHARS_MAX - 10)) is None


def test_a_uri_over_the_limit_matches_nothing() -> None:
    assert UriTemplate("x:{a}").match("x:" + "a" * URI_CHARS_MAX) is None
