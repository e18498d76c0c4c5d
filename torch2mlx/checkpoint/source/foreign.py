"""Files and folders of other formats, and names that are no path: what each is, and what to do.

Told by content; by the name only where a format has no mark of its own. Nothing here reads a
format: a few bytes, the names in an archive, the names in a folder.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch2mlx.errors import AmbiguousCheckpointError, CheckpointError, NotConvertedError

_SAVE = "load it there and save its weights with torch.save(model.state_dict(), 'model.pt')"
_NUMPY = (
    "mlx.core.load reads what MLX saved; the arrays of a PyTorch model are converted by "
    "convert(dict(numpy.load(path)), ...)"
)
_UNPACK = "unpack it and pass what is inside"
_FROM_JAX = (
    "load it with the library that wrote it (transformers: from_pretrained(..., from_flax=True)) "
    "and save it as a PyTorch model"
)
_FROM_TF = (
    "load it with the library that wrote it (transformers: from_pretrained(..., from_tf=True)) "
    "and save it as a PyTorch model"
)

#: What a format is called, and what to do about it.
FORMATS: dict[str, tuple[str, str]] = {
    "gguf": (
        "a GGUF file of llama.cpp",
        "convert the PyTorch checkpoint it was made from; mlx.core.load reads GGUF itself",
    ),
    "ggml": ("an old GGML file of llama.cpp", "convert the PyTorch checkpoint it was made from"),
    "pt2": (
        "a program of torch.export (.pt2)",
        "torch.save(torch.export.load(path).state_dict, 'model.pt') writes its weights",
    ),
    "torchscript": (
        "a TorchScript archive",
        "torch.save(torch.jit.load(path).state_dict(), 'model.pt') writes its weights",
    ),
    "dcp": (
        "a checkpoint of torch.distributed.checkpoint",
        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt writes "
        "it as one file",
    ),
    "zero": (
        "a ZeRO checkpoint of DeepSpeed",
        "the folder's zero_to_fp32.py writes it as one file: python zero_to_fp32.py . model.pt",
    ),
    "peft": (
        "an adapter of PEFT, not a model",
        "torch2mlx.convert(folder, out) writes it for mlx-lm, and with merge=BASE the model that "
        "it is for, with it merged",
    ),
    "onnx": ("an ONNX model", "convert the PyTorch model it was exported from"),
    "npz": ("an archive of numpy arrays (.npz), as MLX saves them too", _NUMPY),
    "npy": ("one numpy array (.npy)", "convert({'name': numpy.load(path)}, ...) takes arrays"),
    "hdf5": ("an HDF5 file, as Keras saves weights", _FROM_TF),
    "keras": ("a Keras model (.keras)", "convert a PyTorch model with these weights"),
    "tensorflow": ("a TensorFlow checkpoint or SavedModel", _FROM_TF),
    "tflite": ("a TensorFlow Lite model", "convert the model it was made from"),
    "executorch": ("a program of ExecuTorch (.pte)", "convert the PyTorch model it was made from"),
    "flax": ("a checkpoint of Flax", _FROM_JAX),
    "orbax": ("a checkpoint of Orbax (JAX)", _FROM_JAX),
    "coreml": ("a Core ML model", "convert the PyTorch model it was made from"),
    "pipeline": (
        "a pipeline of diffusers: several models, each in a folder of its own",
        "pass one of these folders, such as unet or vae",
    ),
    "zip": ("a zip archive of files", _UNPACK),
    "tar": ("a tar archive", _UNPACK),
    "gzip": ("a gzip file", _UNPACK),
    "bzip2": ("a bzip2 file", _UNPACK),
    "xz": ("an xz file", _UNPACK),
    "zstd": ("a zstd file", _UNPACK),
    "7z": ("a 7z archive", _UNPACK),
    "rar": ("a rar archive", _UNPACK),
    "lfs": (
        "a pointer of git-lfs: the file itself was not downloaded",
        "git lfs pull fetches it",
    ),
    "html": (
        "a web page, saved in place of the file (a login, or an error)",
        "download the file again",
    ),
    "json": ("text in JSON, not weights", "pass the file or the folder with the weights"),
    "text": ("an answer of a server in place of the file", "download the file again"),
    "pdf": ("a PDF document", "pass the file with the weights"),
    "parquet": ("a Parquet table", "pass the file with the weights"),
    "bitsandbytes": (
        "weights that bitsandbytes has packed",
        "load the model with transformers, and save model.dequantize() with save_pretrained",
    ),
    "torch": (
        "a PyTorch checkpoint, which convert did not write yet",
        "torch2mlx.convert(path, 'out.safetensors') writes it as MLX stores it",
    ),
}

_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GGUF", "gguf"),
    (0, b"lmgg", "ggml"),
    (0, b"fmgg", "ggml"),
    (0, b"tjgg", "ggml"),
    (0, b"\x93NUMPY", "npy"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (4, b"TFL3", "tflite"),
    (4, b"ET12", "executorch"),
    (257, b"ustar", "tar"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!", "rar"),
    (0, b"version https://git-lfs.github.com/spec/", "lfs"),
    (0, b"%PDF", "pdf"),
    (0, b"PAR1", "parquet"),
)
_ANSWERS = (b"Entry not found", b"Invalid username or password", b"Access to model ", b"Not Found")
_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")
_HEAD = 512
_TAIL = 1 << 20
_ZIP = b"PK\x03\x04"
#: ModelProto: its version, then the name of what wrote it.
_ONNX = re.compile(rb"\x08[\x03-\x20]\x12[\x01-\x40][ -~]", re.DOTALL)

#: Formats without a mark that is theirs alone.
_SUFFIXES = {
    ".onnx": "onnx",
    ".h5": "hdf5",
    ".keras": "keras",
    ".msgpack": "flax",
    ".mlmodel": "coreml",
    ".pb": "tensorflow",
    ".index": "tensorflow",
    ".meta": "tensorflow",
    ".tflite": "tflite",
}
_ARCHIVED: tuple[tuple[str, str], ...] = (
    (r"(.*/)?constants\.pkl", "torchscript"),
    (r"(.*/)?(archive_format|models/.+\.json|serialized_exported_program\.json)", "pt2"),
    (r"(.*/)?data\.pkl", "torch"),
    (r"(.*/)?model\.weights\.h5", "keras"),
    (r"(.*/)?Manifest\.json", "coreml"),
    (r".+\.npy", "npz"),
)
_FOLDERS: tuple[tuple[Callable[[str], object], str], ...] = (
    (lambda name: name == "adapter_config.json", "peft"),
    (lambda name: name.endswith(".distcp"), "dcp"),
    (lambda name: name == "model_index.json", "pipeline"),
    (re.compile(r"(bf16_)?zero_pp_rank_\d+_mp_rank_\d+_.*optim_states\.pt").fullmatch, "zero"),
    (lambda name: name == "saved_model.pb", "tensorflow"),
    (re.compile(r".+\.data-\d{5}-of-\d{5}").fullmatch, "tensorflow"),
    (lambda name: name == "Manifest.json", "coreml"),
    (lambda name: name in ("coremldata.bin", "model.mil"), "coreml"),
    (lambda name: name in ("_METADATA", "_CHECKPOINT_METADATA"), "orbax"),
    (lambda name: name in ("flax_model.msgpack",), "flax"),
    (lambda name: name.endswith(".gguf"), "gguf"),
    (lambda name: name.endswith(".onnx"), "onnx"),
    (lambda name: name.endswith((".h5", ".hdf5")), "hdf5"),
    (lambda name: name.endswith(".npz"), "npz"),
)
#: These say what a folder is though a checkpoint that can be read lies beside.
_FIRST = {"peft", "pipeline", "coreml", "zero"}
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def _said(what: object, form: str) -> str:
    name, advice = FORMATS[form]
    return f"{what}: is {name}; {advice}"


def _marked(head: bytes) -> str | None:
    """The format that the first bytes of a file show; "torch" for the legacy form of torch.save."""
    if head[8:9] == b"{" or head.startswith(_ZIP):  # a safetensors header, whatever its length
        return None
    for at, mark, form in _MARKS:
        if head[at : at + len(mark)] == mark:
            return form
    if head[:1] == b"\x80" and head[1:2] in _PROTOCOLS:
        return "torch"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:14].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "html"
    if text.startswith(_ANSWERS):
        return "text"
    return "json" if b"\0" not in text and re.match(rb'[\[{]\s*["\[{}\]]', text) else None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _names(path: Path, head: bytes) -> list[str]:
    """Names in a zip archive: its first, and those of the directory that end the file."""
    length = int.from_bytes(head[26:28], "little")
    found = [head[30 : 30 + length]]
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read(_TAIL)
    for match in re.finditer(rb"PK\x01\x02", tail):
        at = match.start()
        length = int.from_bytes(tail[at + 28 : at + 30], "little")
        found.append(tail[at + 46 : at + 46 + length])
    return [name.decode(errors="replace") for name in found]


def _in_archive(path: Path, head: bytes) -> str:
    """The format that the names in a zip archive show."""
    names = _names(path, head)
    for pattern, form in _ARCHIVED:
        if any(re.fullmatch(pattern, name) for name in names):
            return form
    return "zip"


def _form(path: Path, head: bytes | None = None, adapter: bool = False) -> str | None:
    """The format of a file, if it is one of these; `head`: its first bytes, where read already.

    `adapter`: whether it may be one of PEFT.
    """
    try:
        head = _head(path) if head is None else head
        if (
            not adapter
            and path.name.startswith("adapter_model.")
            and _beside(path, "adapter_config.json")
        ):
            return "peft"
        if path.suffix.lower() == ".distcp":
            return "dcp"
        if head.startswith(_ZIP):
            return _in_archive(path, head)
        found = _marked(head)
        if found is None and head[8:9] != b"{":
            found = _SUFFIXES.get(path.suffix.lower()) or ("onnx" if _ONNX.match(head) else None)
        return found
    except (OSError, ValueError):
        return None


def _beside(path: Path, name: str) -> bool:
    return (path.parent / name).is_file()


def refuse_file(path: Path, converted: bool = False, adapter: bool = False) -> None:
    """Raises CheckpointError for a file of another format; its first bytes and name decide.

    NotConvertedError for what torch.save wrote, where `converted` files are wanted. Archives are
    opened only there, and where the name does not say torch.save. `adapter`: whether the file may
    be one of PEFT.
    """
    try:
        head = _head(path)
    except OSError:
        return  # said where it is read
    if not head:
        raise CheckpointError(f"{path}: is empty (0 bytes): fetch it again, or save it again")
    if not converted and path.suffix.lower() in _WEIGHTS and head.startswith(_ZIP):
        return
    form = _form(path, head, adapter)
    if form == "torch" and converted:
        raise NotConvertedError(_said(path, form))
    if form is not None and form != "torch":
        raise CheckpointError(_said(path, form))


@contextmanager
def named(path: Path, adapter: bool = False) -> Iterator[None]:
    """Within it, a file that cannot be read is called what it is, where that is known."""
    try:
        yield
    except (CheckpointError, AmbiguousCheckpointError) as error:
        form = _form(path, adapter=adapter)
        if form is None or form == "torch":
            raise
        raise CheckpointError(_said(path, form)) from error


def refuse_folder(folder: Path, adapter: bool = False) -> None:
    """Raises CheckpointError for a folder that another library wrote in a format of its own.

    `adapter`: whether one of PEFT may lie beside what is read.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read: {error.strerror}") from error
    forms = [form for says, form in _FOLDERS if any(says(name) for name in names)]
    forms = [form for form in forms if form != "peft" or not adapter]
    first = next((form for form in forms if form in _FIRST), None)
    readable = any(name.endswith(_WEIGHTS) and not name.startswith(".") for name in names)
    if first == "peft":
        raise CheckpointError(_with_adapter(folder, names))
    if first is not None or (forms and not readable):
        raise CheckpointError(_said(folder, first or forms[0]))


def _with_adapter(folder: Path, names: list[str]) -> str:
    """What to say of a folder with the configuration of an adapter: a model may lie there too."""
    weights = [name for name in names if name.endswith(_WEIGHTS) and not name.startswith(".")]
    models = [name for name in weights if not name.startswith("adapter")]
    if not models:
        return _said(folder, "peft")
    what = "an adapter of PEFT" if len(models) < len(weights) else "the settings of an adapter"
    return (
        f"{folder}: holds {what} (adapter_config.json) beside a model ({models[0]}), and which is "
        f"meant is not told; pass {folder / models[0]} for the model as it is"
    )


def refuse_adapter(keys: Iterable[str], origin: str) -> None:
    """Raises CheckpointError for the tensors of an adapter without its model."""
    keys = list(keys)
    parts = ("lora_", "modules_to_save", "ia3_l", "vera_", "prompt_embeddings")
    if any(key.endswith(".lora_A.weight") for key in keys) and all(
        key.startswith("base_model.model.") and any(part in key for part in parts) for key in keys
    ):
        raise CheckpointError(_said(origin, "peft"))


_PACKED = re.compile(r"(?P<weight>.+)\.quant_state\.bitsandbytes__\w+")


def refuse_packed(keys: Iterable[str], origin: str) -> None:
    """Raises CheckpointError for what bitsandbytes saves: bytes of weights, and what they mean."""
    known = frozenset(keys)
    for key in known:
        if key.endswith(".SCB") and f"{key[:-3]}weight" in known:
            raise CheckpointError(_said(origin, "bitsandbytes"))
        packed = _PACKED.fullmatch(key) if "bitsandbytes__" in key else None
        if packed and f"{packed['weight']}.absmax" in known:
            raise CheckpointError(_said(origin, "bitsandbytes"))


_URL = re.compile(r"(https?|ftp|s3|gs|hf)://?.+")
_HUB = re.compile(
    r"(?:https?://?)?(?:www\.)?(?:huggingface\.co|hf\.co)/"
    r"(?P<id>[\w.-]+(?:/(?!(?:blob|resolve|tree|raw)/)[\w.-]+)?)"
    r"(?:/(?:blob|resolve|tree|raw)/[^/]+)?/?(?P<file>[^?#]*)(?:[?#].*)?"
)
_FETCH = {"s3": "aws s3 cp {} .", "gs": "gcloud storage cp {} ."}
_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def missing(text: str) -> str:
    """What to say of a source that does not exist: a URL or a hub id is downloaded first."""
    hub = _HUB.fullmatch(text) or re.fullmatch(r"hf://?(?P<id>[\w.-]+/[\w.-]+)/?(?P<file>.*)", text)
    if hub:
        return f"{text}: is no path; download it first: {_download(hub['id'], hub['file'])}"
    if _URL.fullmatch(text):
        where = re.sub(r"^(\w+):/(?=[^/])", r"\1://", text)
        command = _FETCH.get(where.partition(":")[0], "curl -LO {}").format(shlex.quote(where))
        return f"{where}: is no path; download it first: {command}"
    if text.startswith("file:"):
        return f"{text}: is no path; pass {text.removeprefix('file:').removeprefix('//')}"
    if os.path.exists(text):
        return f"{text}: is neither a file nor a folder"
    known = text.endswith((*_WEIGHTS, ".json", *_SUFFIXES))
    above = Path(text).parent
    if _ID.fullmatch(text) and not known and (above == Path(".") or not above.exists()):
        return (
            f"{text}: does not exist; if it is a model of the Hugging Face hub, download it "
            f"first: {_download(text, '')}"
        )
    return f"{text}: does not exist"


def _download(name: str, file: str) -> str:
    folder = name.rpartition("/")[2]
    one = f" {shlex.quote(file)}" if file else ""
    return f"hf download {name}{one} --local-dir {folder}"
