"""How much of a page is parsed: all of an ordinary one, and little of one made to do harm."""

from __future__ import annotations

from time import thread_time

import pytest
from selectolax.lexbor import LexborHTMLParser

from orchestrator.agents._crawl.effort import MAX_ATTRIBUTES, MAX_NESTING, end_of_easy

DEEP = "<div>" * (MAX_NESTING + 1)
SOME = range(500)
BOLD = "".join(f"<b a{n}>" for n in SOME)

# Each takes the parser from seconds to hours, and some of them all memory.
HOSTILE = {
    "nothing but depth": DEEP,
    "end tags of nothing": "<div>" * 900 + "</i>" * 300_000,
    "formatting": BOLD + "<p>x" * 10_000,
    "formatting that is closed": f"<div>{BOLD}</div>" + "<p>x" * 10_000,
    "formatting that was closed once": "".join(f"<b a{n}></b>" * 4 for n in SOME)
    + BOLD
    + "<p>x" * 10_000,
    "formatting closed in a table": f"{BOLD}<table><tr><td>{'</b>' * 500}</table>"
    + "<p>x" * 10_000,
    "options": "<select>" + "<option>x" * 20_000,
    "attributes": f"<p {' '.join(f'a{n}' for n in range(MAX_ATTRIBUTES + 1))}>",
    "many attributes of many": f"<p {' '.join(f'a{n}' for n in SOME)}>" * 2_000,
    "few attributes of many": f"<p {' '.join('abcdefghijklmnopqrstuvw')}>" * 200_000,
    "attributes of one": "".join(f"<html a{n}>" for n in range(30_000)),
    "depth after a comment": f"<!-->{DEEP}",
    "depth after another comment": f"<!--->{DEEP}",
    "depth after yet another comment": f"<!-- --!>{DEEP}",
    "depth after a comment in a title": f"<title><!--</title>{DEEP}",
    "depth after a script in a text": f"<textarea><script></textarea>{DEEP}",
    "depth in a style in a picture": "<svg><style>" + "<g>" * (MAX_NESTING + 1),
    "depth after a quote": f"<p x='>' '>{DEEP}",
    "depth after a lone quote": f'<p ">{DEEP}',
    "end tags outside of a table": "<div><table><tr><td></div>" * MAX_NESTING,
}


@pytest.mark.parametrize("html", HOSTILE.values(), ids=HOSTILE)
def test_a_page_ends_where_it_becomes_too_much(html: str) -> None:
    easy = html[: end_of_easy(html)]
    assert len(easy) < len(html)
    begun = thread_time()
    LexborHTMLParser(easy)
    # Half a second is right. The time of the processor, as a busy machine has little for us.
    assert thread_time() - begun < 5


def test_ordinary_pages_are_not_too_much() -> None:
    many = 5 * MAX_NESTING
    for html in (
        "<div><p>x</div>" * many,
        "<ul>" + "<li>x" * many + "</ul>",
        "<table>" + "<tr><td>x<td>y" * many + "</table>",
        "<p><b>x<p>" * (MAX_NESTING // 2) + "<br>" * many,
        "<div><img><!-- <div> --><script>'<div>'</script></div>" * many,
        "</div>" * many,
        "<div><!----><p>x</div><!-- <div> --!>" * many,
        "<title><div></title><textarea><div></textarea><style><div></style>" * many,
        "<table><tr><td><div>x</div></table>" * many,
        "<div title='>' a=\"'<div>\" b=x/>x</div>" * many,
        "<p><img alt='" + "x y " * 100_000 + "'>",
        "<select>" + "<option value=x>x</option>" * many + "</select>",
        "<html a><body>" + "<b><i>x</i></b>" * many,
        f"<p {' '.join(f'a{n}=x' for n in range(500))}>",
    ):
        assert end_of_easy(html) == len(html)
