"""What a release holds: `python .ci/contents.py FOLDER`, with a wheel and an sdist in it."""

import sys
import tarfile
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

ROOT = Path(__file__).parent.parent
(wheel,), (sdist,) = (list(Path(sys.argv[1]).glob(kind)) for kind in ("*.whl", "*.tar.gz"))
package = {
    str(file.relative_to(ROOT))
    for file in (ROOT / "jaxgfo").rglob("*")
    if file.is_file() and "__pycache__" not in file.parts
}
assert {"jaxgfo/py.typed", "jaxgfo/embedded/model/model.safetensors"} <= package

with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    about = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    expected = package | {f"{info}/{name}" for name in about}
    assert names == expected, f"the wheel differs from the package in {sorted(names ^ expected)}"
    metadata = Metadata.from_email(archive.read(f"{info}/METADATA"))  # refuses what an index would
with tarfile.open(sdist) as archive:
    top = f"jaxgfo-{metadata.version}/"
    names = {name.removeprefix(top) for name in archive.getnames()}
    needed = package | {"LICENSE", "README.md", "pyproject.toml", "tests/conftest.py"}
    assert needed <= names, f"the sdist lacks {sorted(needed - names)}"

urls = metadata.project_urls or {}
assert {"Homepage", "Documentation", "Changelog"} <= urls.keys(), urls
assert metadata.description_content_type == "text/markdown"
assert metadata.license_expression == "Apache-2.0"
version = str(metadata.version)
for file in ("CHANGELOG.md", "CITATION.cff"):
    assert version in (ROOT / file).read_text(), f"{file} does not know version {version}"
for file in (wheel, sdist):
    print(f"{file.name}: {file.stat().st_size / 2**20:.2f} MiB")
