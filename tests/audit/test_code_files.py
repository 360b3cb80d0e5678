"""A model is its code too: the files that its factory imports from beside it are identified."""

from dlaudit.audit.code_files import code_files


def written(folder, **files):
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "net.py"


def test_a_file_alone_is_itself(tmp_path):
    net = written(tmp_path, net="import torch\nfrom os import path\n")
    assert code_files(net) == {"code": net}


def test_imports_from_beside_it_count_directly_or_not(tmp_path):
    net = written(
        tmp_path,
        net="import blocks, json\n\ndef build():\n    from parts import layers\n",
        blocks="from constants import WIDTH\n",
        constants="WIDTH = 3\n",
        parts__init="",
        unused="",
    )
    (tmp_path / "parts" / "__init__.py").write_text("from . import tools\n")
    (tmp_path / "parts" / "layers.py").write_text("from ..blocks import x\n")
    (tmp_path / "parts" / "tools.py").write_text("import net\n")
    assert set(code_files(net)) == {
        "code",
        "code/blocks.py",
        "code/constants.py",
        "code/parts/__init__.py",
        "code/parts/layers.py",
        "code/parts/tools.py",
    }


def test_files_outside_the_folder_and_broken_ones_add_nothing(tmp_path):
    (tmp_path / "outside.py").write_text("")
    inner = tmp_path / "inner"
    inner.mkdir()
    net = written(inner, net="from .. import outside\nimport broken\n", broken="def (:\n")
    assert set(code_files(net)) == {"code", "code/broken.py"}


def test_a_sibling_that_changes_changes_the_fingerprint(tmp_path):
    """The factory's own file is the same, the network is another."""
    from dlaudit.models.torch_files import load

    prints = []
    for bias in ("True", "False"):
        text = f"from torch import nn\n\ndef layer():\n    return nn.Linear(2, 2, bias={bias})\n"
        written(
            tmp_path,
            net="from dlaudit_sibling import layer\n\ndef build():\n    return layer()\n",
            dlaudit_sibling=text,
        )
        model = load(file="net.py:build", root=tmp_path)
        prints.append(model.card.facts["files"]["code/dlaudit_sibling.py"]["sha256"])
    assert prints[0] != prints[1]
