"""Documents for tests, and runs that take them in."""

from __future__ import annotations

import json
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import trio
from pypdf import PdfReader, PdfWriter

from orchestrator import File
from orchestrator.agents.ingest import ingest

if TYPE_CHECKING:
    from orchestrator import Orchestrator, Run, RunRecord

BOUND_S = 60


def pdf(*pages: str, title: str = "") -> bytes:
    """Return a PDF with a line of text on each page."""
    return packed([f"BT /F 12 Tf 50 700 Td ({text}) Tj ET".encode() for text in pages], title)


def packed(contents: list[bytes], title: str = "") -> bytes:
    """Return a PDF of pages with such contents."""
    count = len(contents)
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(count))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, content in enumerate(contents):
        page = (
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800]"
            f" /Resources << /Font << /F 3 0 R >> >> /Contents {5 + 2 * number} 0 R >>"
        )
        data = zlib.compress(content, 9)
        head = f"<< /Length {len(data)} /Filter /FlateDecode >>\nstream\n".encode()
        objects += [page.encode(), head + data + b"\nendstream"]
    objects.append(f"<< /Title ({title}) >>".encode())
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer << /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return bytes(out + trailer % (len(objects) + 1, len(objects), table))


def encrypted(data: bytes, password: str) -> bytes:
    """Return a PDF that is encrypted."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(data)))
    writer.encrypt(password, algorithm="RC4-128")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


async def begun(orchestrator: Orchestrator, files: dict[str, bytes], /, **input: Any) -> Run:
    """Start to take in files."""
    given = [File(name, "application/octet-stream", data) for name, data in files.items()]
    return await orchestrator.stored(await orchestrator.begin(ingest, input, files=given))


async def taken_in(
    orchestrator: Orchestrator, files: dict[str, bytes], /, **input: Any
) -> tuple[RunRecord, list[dict[str, Any]]]:
    """Take in files to the end; return the run, and the chunks."""
    with trio.fail_after(BOUND_S):
        run = await begun(orchestrator, files, **input)
        record = await run.wait()
    return record, await chunks(orchestrator, run.id)


async def chunks(orchestrator: Orchestrator, run_id: str) -> list[dict[str, Any]]:
    """Return the chunks that a run has kept."""
    data = await orchestrator.artifact(run_id, "chunks.jsonl") or b""
    return [json.loads(line) for line in data.splitlines()]
