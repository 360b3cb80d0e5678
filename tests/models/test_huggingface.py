"""Folders of ``transformers`` answer as the library does with its own preprocessing, or are refused."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dlaudit.datasets import jsonl
from dlaudit.errors import LoadError, UntrustedModel
from dlaudit.models import huggingface, infer

transformers = pytest.importorskip("transformers")
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
NORMAL = {"do_normalize": True, "image_mean": [0.4], "image_std": [0.25], "do_rescale": True}
UNKNOWN = "[UNK]"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "good", "bad", "film", "very"]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of pictures, one of texts with its tokenizer, one of sounds."""
    folder = tmp_path_factory.mktemp("hub")
    transformers.logging.disable_progress_bar()
    vit = transformers.ViTConfig(
        **SMALL,
        image_size=8,
        patch_size=4,
        num_channels=1,
        num_labels=3,
        id2label={0: "a", 1: "b", 2: "c"},
    )
    bert = transformers.BertConfig(**SMALL, vocab_size=len(WORDS), max_position_embeddings=16)
    sound = transformers.Wav2Vec2Config(
        **SMALL, conv_dim=(8,), conv_stride=(4,), conv_kernel=(8,), num_feat_extract_layers=1,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ViTForImageClassification(vit).save_pretrained(folder / "vit")
        transformers.BertForSequenceClassification(bert).save_pretrained(folder / "bert")
        transformers.Wav2Vec2ForSequenceClassification(sound).save_pretrained(folder / "sound")
    processor = NORMAL | {"rescale_factor": 1 / 255, "size": {"height": 8, "width": 8}}
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "sound" / "preprocessor_config.json").write_text(
        '{"do_normalize": true, "feature_size": 1}'
    )
    tokenizer(folder / "bert" / "tokenizer.json")
    return folder


def tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    made = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token=UNKNOWN)
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    made.save(str(path))


def test_pictures_in_the_unit_range_are_what_the_processor_makes_of_bytes(saved):
    """The formula of the processor: bytes are rescaled, the mean taken off, divided by the spread."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8))
    made = ((pixels * (1 / 255) - 0.4) / 0.25).astype(np.float32)
    net = transformers.ViTForImageClassification.from_pretrained(
        saved / "vit", local_files_only=True
    )
    with torch.no_grad():
        expected = net.eval()(pixel_values=torch.from_numpy(made)).logits
    model = huggingface.load(root=saved, path="vit")
    x = (pixels / 255).astype(np.float32)
    assert model.recognise(x) == "logits"
    torch.testing.assert_close(model.logits(x), expected, rtol=1e-4, atol=1e-5)
    assert (model.classes, model.bounds) == (("a", "b", "c"), (0.0, 1.0))
    slope = model.loss_gradient(x, np.zeros(5, dtype=np.int64))
    assert slope.shape == x.shape
    assert slope.abs().sum() > 0


def test_sounds_are_standardised_as_their_extractor_does(saved):
    x = np.random.default_rng(0).normal(2, 3, (3, 1, 200)).astype(np.float32)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    made = extractor(list(x[:, 0]), sampling_rate=16000, return_tensors="pt")["input_values"]
    net = transformers.Wav2Vec2ForSequenceClassification.from_pretrained(saved / "sound")
    with torch.no_grad():
        expected = net.eval()(input_values=made).logits
    model = huggingface.load(root=saved, path="sound")
    torch.testing.assert_close(model.logits(x), expected, rtol=1e-3, atol=1e-4)
    assert model.bounds is None


def test_texts_are_tokenised_padded_and_masked_as_by_the_library(saved, tmp_path):
    texts = ["good film", "very very bad film", "unheard of"]
    (tmp_path / "t.jsonl").write_text(
        "\n".join(json.dumps({"text": one, "label": at % 2}) for at, one in enumerate(texts))
    )
    shutil.copytree(saved / "bert", tmp_path / "bert")
    data = jsonl.load(root=tmp_path, path="t.jsonl", tokenizer="bert", length=8)
    (batch,) = data.batches()
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(saved / "bert" / "tokenizer.json"),
        pad_token="[PAD]",  # noqa: S106
    )
    given = theirs(texts, padding="max_length", max_length=8, return_tensors="pt")
    np.testing.assert_array_equal(batch.x, given["input_ids"].numpy())
    net = transformers.BertForSequenceClassification.from_pretrained(saved / "bert")
    with torch.no_grad():
        expected = net.eval()(
            input_ids=given["input_ids"], attention_mask=given["attention_mask"]
        ).logits
    model = huggingface.load(root=tmp_path, path="bert")
    torch.testing.assert_close(model.logits(batch.x), expected, rtol=1e-4, atol=1e-5)
    assert set(data.card.facts["files"]) == {
        "data",
        "tokenizer tokenizer.json",
        "tokenizer config.json",
    }


def test_the_padding_is_as_the_tokenizer_says(saved, tmp_path):
    shutil.copytree(saved / "bert", tmp_path / "bert")
    written = json.loads((tmp_path / "bert" / "tokenizer.json").read_text())
    written["padding"] = {
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 5,
        "pad_type_id": 0, "pad_token": "film",
    }  # fmt: skip
    (tmp_path / "bert" / "tokenizer.json").write_text(json.dumps(written))
    (tmp_path / "t.jsonl").write_text('{"text": "bad", "label": 0}\n{"text": "good", "label": 1}\n')
    (batch,) = jsonl.load(root=tmp_path, path="t.jsonl", tokenizer="bert", length=4).batches()
    assert batch.x.tolist() == [[2, 4, 5, 5], [2, 3, 5, 5]]


def test_a_folder_is_known_by_its_configuration(saved):
    assert infer(saved / "vit") == "huggingface"


def test_shards_are_read_through_their_index(saved, tmp_path):
    shutil.copytree(saved / "vit", tmp_path / "vit")
    state = load_file(tmp_path / "vit" / "model.safetensors")
    names = sorted(state)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: state[name] for name in part}, tmp_path / "vit" / f"part-{number}.safetensors",
                  metadata={"format": "pt"})  # fmt: skip
    placed = {name: f"part-{at % 2}.safetensors" for at, name in enumerate(names)}
    (tmp_path / "vit" / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": placed}
    (tmp_path / "vit" / "model.safetensors.index.json").write_text(json.dumps(index))
    x = np.zeros((2, 1, 8, 8), dtype=np.float32)
    whole = huggingface.load(root=saved, path="vit")
    torch.testing.assert_close(
        huggingface.load(root=tmp_path, path="vit").logits(x), whole.logits(x)
    )
    (tmp_path / "vit" / "part-1.safetensors").write_bytes(pickle.dumps({}))
    with pytest.raises(LoadError, match=r"part-1\.safetensors"):
        huggingface.load(root=tmp_path, path="vit")


def config(**changes):
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(content))

    return change


def written(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def weights(change):
    def changed(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return changed


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def leading_out(folder: Path) -> None:
    target = folder.parent / "elsewhere.safetensors"
    (folder / "model.safetensors").rename(target)
    (folder / "model.safetensors").symlink_to(target)


CODE = {"AutoModelForImageClassification": "evil.Net"}
BAD = [
    ("no configuration", lambda f: (f / "config.json").unlink(), {}, "config.json"),
    ("an empty configuration", written("config.json", b""), {}, "got an empty file"),
    ("no JSON", written("config.json", b"{"), {}, "expected a JSON object"),
    ("a list", written("config.json", b"[]"), {}, "got a list"),
    ("a long configuration", written("config.json", b" " * 2_000_000), {}, "at most 1048576 bytes"),
    ("code of its own", config(auto_map=CODE), {}, "code that comes with the folder"),
    ("no architecture", config(architectures=[]), {}, "architectures: expected one name"),
    ("a detector", config(architectures=["DetrForObjectDetection"]), {}, "expected a classifier"),
    ("a segmenter", config(architectures=["SegformerForSemanticSegmentation"]), {}, "is no classifier"),
    ("a generator", config(architectures=["GPT2LMHeadModel"]), {}, "expected a classifier"),
    ("no such class", config(architectures=["VitForImageClassification"]), {}, "Did you mean ViTFor"),
    ("several labels", config(problem_type="multi_label_classification"), {}, "Several labels a row? Say"),
    ("one label for several", lambda _: None, {"task": "multilabel"}, "expected multi_label_classification"),
    ("boxes", lambda _: None, {"task": "detection"}, "task: expected one of multilabel"),
    ("no weights", lambda f: (f / "model.safetensors").unlink(), {}, "expected model.safetensors, got no"),
    ("a pickle", pickled, {}, "got pytorch_model.bin. Save it with"),
    ("half of the weights", lambda f: (f / "model.safetensors").write_bytes(
        (f / "model.safetensors").read_bytes()[:3000]), {}, "model.safetensors"),
    ("text for weights", written("model.safetensors", b"hello"), {}, "kind: unknown"),
    ("a key less", weights(lambda s: s.pop("classifier.bias")), {}, "missing keys: classifier.bias"),
    ("a key more", weights(lambda s: s.update(extra=torch.ones(1))), {}, "unexpected keys: extra"),
    ("another shape", weights(lambda s: s.update({"classifier.bias": torch.ones(5)})), {}, "mismatched keys"),
    ("NaN", weights(lambda s: s["classifier.bias"].fill_(float("nan"))), {}, "expected finite numbers"),
    ("a link out of it", leading_out, {}, "which leads out of it"),
    ("a processor of words", written("preprocessor_config.json", b"none"), {}, "expected a JSON object"),
    ("no mean", written("preprocessor_config.json", b'{"do_normalize": true}'), {}, "a number per channel"),
    ("sizes of nothing", config(hidden_size="wide"), {}, "expected a whole ViTFor"),
    ("a file", lambda _: None, {"path": "vit/config.json"}, "got a file"),
    ("missing", lambda _: None, {"path": "vat"}, "Did you mean vit?"),
    ("a class twice", lambda _: None, {"classes": ["a", "a"]}, "got 'a' twice"),
    ("bounds reversed", lambda _: None, {"bounds": [1, 0]}, "bounds: expected low below high"),
    ("no batch", lambda _: None, {"batch": 0}, "batch: expected"),
]  # fmt: skip


@pytest.mark.parametrize("row", BAD, ids=[row[0] for row in BAD])
def test_a_bad_folder_is_refused_in_one_sentence(saved, tmp_path, row):
    _, spoil, args, said = row
    shutil.copytree(saved / "vit", tmp_path / "vit")
    spoil(tmp_path / "vit")
    with pytest.raises(LoadError) as refused:
        huggingface.load(root=tmp_path, **({"path": "vit"} | args))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 700


def test_code_beside_the_configuration_is_never_run(saved, tmp_path, canary):
    shutil.copytree(saved / "vit", tmp_path / "vit")
    (tmp_path / "vit" / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    config(auto_map=CODE)(tmp_path / "vit")
    with pytest.raises(LoadError, match="code that comes with the folder"):
        huggingface.load(root=tmp_path, path="vit")
    assert not canary.exists()
    (tmp_path / "vit" / "config.json").write_bytes((saved / "vit" / "config.json").read_bytes())
    torch.save({"a": torch.ones(1)}, tmp_path / "vit" / "model.safetensors")
    with pytest.raises(LoadError, match="expected weights"):
        huggingface.load(root=tmp_path, path="vit")
    assert issubclass(UntrustedModel, LoadError)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("tokenizer.json", None, "tokenizer.json: expected a saved tokenizer"),
     ("tokenizer.json", b"{}", "expected"), ("config.json", b"[", "expected a JSON object")],
)  # fmt: skip
def test_a_folder_without_a_tokenizer_is_refused(saved, tmp_path, name, content, said):
    shutil.copytree(saved / "bert", tmp_path / "bert")
    (tmp_path / "t.jsonl").write_text('{"text": "bad", "label": 0}\n')
    file = tmp_path / "bert" / name
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(LoadError, match=said):
        jsonl.load(root=tmp_path, path="t.jsonl", tokenizer="bert", length=4)


def test_without_the_library_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(LoadError, match=r"dlaudit\[huggingface\]"):
        huggingface.load(root=saved, path="vit")
