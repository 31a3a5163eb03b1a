"""Docstrings in three styles."""

from __future__ import annotations

import pytest

from erlmcp.server.docstring import parse_docstring

GOOGLE = """Search the index.

    Longer text.

    Args:
        query (str): what to look for,
            over two lines
        limit: how many
        **rest: ignored

    Returns:
        The hits.
    """
NUMPY = """Search the index.

    Longer text.

    Parameters
    ----------
    query : str
        what to look for,
        over two lines
    limit : int, optional
        how many

    Returns
    -------
    list
        The hits.
    """
SPHINX = """Search the index.

    Longer text.

    :param str query: what to look for,
        over two lines
    :type query: str
    :param limit: how many
    :returns: The hits.
    """


@pytest.mark.parametrize("doc", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_three_docstring_styles_say_the_same(doc: str) -> None:
    found = parse_docstring(doc)
    assert found.params["query"] == "what to look for, over two lines"
    assert found.params["limit"] == "how many"
    assert found.text.startswith("Search the index.\n\nLonger text.\n\n")
    assert "The hits." in found.text
    assert "what to look for" not in found.text


@pytest.mark.parametrize(
    "doc", [None, "", "   ", "Args:", "Args:\nnot indented", ":param", "Parameters\n---", "Args:\n  ???"]
)
def test_an_odd_docstring_does_no_harm(doc: str | None) -> None:
    parse_docstring(doc)
