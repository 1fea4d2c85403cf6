"""A model package on disk: ``manifest.json`` and ``weights.safetensors``; digest, checks, reading and writing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from spineone_core import strict_json
from spineone_core.anatomy import Structure
from spineone_core.detection.calibration import Calibration
from spineone_core.detection.levels import DecodingConfig
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.findings import ModelIdentity
from spineone_core.network.build import build_network
from spineone_core.network.config import ConfigError, NetworkConfig
from spineone_core.network.domain import DomainConfig, DomainNetwork
from spineone_core.network.exported import ONNX, TORCH_EXPORT, ExportError, OnnxNetwork
from spineone_core.network.grading import GradingConfig, GradingEnsemble
from spineone_core.network.spineone import SpineOne

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
CARD = "model-card.md"
# The names of the domain network's tensors in the weights file begin with this.
DOMAIN = "domain."
# And those of the grading networks with this and their structure, as in "grading.disc.".
GRADING = "grading."
# Files beside them that may be there: the network for other programs.
EXPORTS = (ONNX, TORCH_EXPORT)


class ModelPackageError(Exception):
    """A model package is missing, damaged or of another architecture; the message says which and what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything but the weights. ``domain`` is set where the package has a check for pictures it was not trained to read.

    ``grading`` has the config of each structure's grading networks, where there are any. ``calibration`` has one entry for the
    class of each structure, whichever network says it, and one for each further output that is reported
    (`spineone_core.detection.grading.calibration_key`).
    ``training``, ``figures`` and ``licence`` are for people: the data, the recipe, and the results with their data sets.
    """

    name: str
    version: str
    network: NetworkConfig
    preprocessing: PreprocessingConfig
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    calibration: dict[str, Calibration] = field(default_factory=dict)
    domain: DomainConfig | None = None
    grading: dict[str, GradingConfig] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    licence: str = ""

    def decides(self, structure: Structure, probability: float) -> bool:
        """Whether a calibrated probability of degeneration lies outside the band in which no class is called."""
        calibration = self.calibration.get(structure.value)
        if calibration is None or calibration.undecided is None:
            return abs(probability - 0.5) >= self.decoding.undecided_margin
        low, high = calibration.undecided
        return probability < low or probability > high

    def to_json(
        self, weights_sha256: str, card_sha256: str | None = None, exports: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The content of ``manifest.json``, with the SHA-256 of the weights, the model card and each export by its name."""
        card: dict[str, Any] = {} if card_sha256 is None else {"card": {"file": CARD, "sha256": card_sha256}}
        if exports:
            card["exports"] = dict(exports)
        return {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "network": self.network.to_json(),
            "preprocessing": self.preprocessing.to_json(),
            "decoding": asdict(self.decoding),
            "calibration": {structure: asdict(c) for structure, c in sorted(self.calibration.items())},
            "domain": None if self.domain is None else self.domain.to_json(),
            "grading": {structure: config.to_json() for structure, config in sorted(self.grading.items())},
            "training": self.training,
            "figures": self.figures,
            "licence": self.licence,
            "weights": {"file": WEIGHTS, "sha256": weights_sha256},
            **card,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Manifest:
        """The manifest that ``manifest.json`` holds; ``KeyError``, ``TypeError`` or ``ValueError`` if it is malformed."""
        return cls(
            name=data["name"],
            version=data["version"],
            network=NetworkConfig.from_json(data["network"]),
            preprocessing=PreprocessingConfig.from_json(data["preprocessing"]),
            decoding=DecodingConfig(**data["decoding"]),
            calibration={structure: Calibration.from_json(c) for structure, c in data["calibration"].items()},
            domain=DomainConfig(**data["domain"]) if data.get("domain") else None,
            grading={s: GradingConfig.from_json(c) for s, c in data.get("grading", {}).items()},
            training=data.get("training", {}),
            figures=data.get("figures", {}),
            licence=data.get("licence", ""),
        )


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A loaded, verified package; the networks are in evaluation mode, fp32, on the CPU."""

    manifest: Manifest
    identity: ModelIdentity
    network: SpineOne
    domain: DomainNetwork | None = None
    grading: dict[Structure, GradingEnsemble] = field(default_factory=dict)


def locate(path: str | Path) -> Path:
    """The folder of a package; ``"default"`` is the one that ships with the project."""
    if str(path) == "default":
        return Path(str(files("spineone_core") / "models" / "default"))
    return Path(path)


def load_package(path: str | Path = "default", *, released: bool = False) -> ModelPackage:
    """Read and verify a package.

    Parameters
    ----------
    released
        Also require what people at a site must know about a model: licence, training data, figures and a model card.

    Raises
    ------
    ModelPackageError
        If a file is missing, the manifest is not understood, the SHA-256 of the weights or the card differs from the manifest's,
        the weights do not fit the architecture, or a released package lacks something.
    """
    folder = locate(path)
    manifest_bytes = _read(folder / MANIFEST)
    weights = _read(folder / WEIGHTS)
    manifest, expected, card, exports = _parse(manifest_bytes, folder)
    _check_digest(folder / WEIGHTS, weights, expected)
    for name, sha256 in exports.items():
        _check_digest(folder / name, _read(folder / name), sha256)
    if card is not None:
        _check_digest(folder / CARD, _read(folder / CARD), card)
    if released:
        _check_released(manifest, card, folder)
    digest = hashlib.sha256(manifest_bytes).hexdigest()
    identity = ModelIdentity(name=manifest.name, version=manifest.version, digest=digest)
    return ModelPackage(manifest, identity, *_build(manifest, weights, folder))


def load_onnx_package(path: str | Path) -> ModelPackage:
    """A package whose detector is run by onnxruntime from its ``network.onnx``; the other networks stay as they are.

    Raises
    ------
    ModelPackageError
        As `load_package`, or if the package has no such file or onnxruntime cannot run it.
    """
    package, file = load_package(path), locate(path) / ONNX
    if not file.exists():
        raise ModelPackageError(f"{file}: not there; spineone-train package --onnx writes it")
    try:
        network = OnnxNetwork(_read(file), package.manifest.network)
    except ExportError as error:
        raise ModelPackageError(f"{file}: {error}") from error
    return replace(package, network=cast("SpineOne", network))


def _check_digest(path: Path, content: bytes, expected: str) -> None:
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise ModelPackageError(f"{path}: SHA-256 {actual[:12]}… is not {expected[:12]}… of the manifest")


def _check_released(manifest: Manifest, card: str | None, folder: Path) -> None:
    present = {
        "licence": manifest.licence,
        "training data": manifest.training.get("data"),
        "figures": manifest.figures,
        "model card": card,
    }
    missing = [name for name, value in present.items() if not value]
    if missing:
        raise ModelPackageError(
            f"{folder}: no released model, {', '.join(missing)} missing; spineone-train package adds what is missing"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelPackageError(f"model file {path} cannot be read: {error.strerror}") from error


def _parse(manifest_bytes: bytes, folder: Path) -> tuple[Manifest, str, str | None, dict[str, str]]:
    """The manifest, the SHA-256 of the weights, that of the model card where there is one, and those of exports by name."""
    try:
        data = json.loads(manifest_bytes)
        if data["format"] != FORMAT:
            raise ModelPackageError(f"{folder / MANIFEST}: format {data['format']!r}; this version reads {FORMAT}")
        card = str(data["card"]["sha256"]) if "card" in data else None
        exports = {name: str(sha256) for name, sha256 in data.get("exports", {}).items() if name in EXPORTS}
        return Manifest.from_json(data), str(data["weights"]["sha256"]), card, exports
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelPackageError(f"{folder / MANIFEST}: not a model manifest: {error}") from error


def _build(
    manifest: Manifest, weights: bytes, folder: Path
) -> tuple[SpineOne, DomainNetwork | None, dict[Structure, GradingEnsemble]]:
    try:
        state = {name: tensor.float() for name, tensor in load(weights).items()}
        checks, grades = (_taken(state, prefix) for prefix in (DOMAIN, GRADING))
        network = build_network(manifest.network)
        _fill(network, state)
        domain = None if manifest.domain is None else DomainNetwork(manifest.domain)
        if domain is not None:
            _fill(domain, checks)
        grading = {config.structure: GradingEnsemble(config) for config in manifest.grading.values()}
        if Structure.DISC not in grading and any(e.config.class_from == "joined" for e in grading.values()):
            raise ConfigError("the class of vertebrae is joined with that of discs, but no network looks at these")
        for structure, ensemble in grading.items():
            _fill(ensemble, _taken(grades, f"{structure.value}."))
    except (SafetensorError, RuntimeError, ConfigError) as error:
        first = str(error).strip().splitlines()
        raise ModelPackageError(
            f"{folder / WEIGHTS}: does not fit the manifest's network: {' '.join(first[:2])}"
        ) from error
    return network, domain, grading


def _taken(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it; they are taken out of ``state``."""
    return {name.removeprefix(prefix): state.pop(name) for name in [*state] if name.startswith(prefix)}


def _fill(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load the tensors. Batch counters of normalisation layers are not shipped, as evaluation does not use them."""
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    network.load_state_dict({**counters, **state})
    network.eval()


def save_package(
    folder: Path,
    network: SpineOne,
    manifest: Manifest,
    *,
    domain: DomainNetwork | None = None,
    grading: Mapping[Structure, GradingEnsemble] | None = None,
    dtype: torch.dtype = torch.float16,
    write_card: Callable[[Manifest, str], str] | None = None,
    exports: Mapping[str, bytes] | None = None,
) -> ModelIdentity:
    """Write a package; the weights are in half precision unless told otherwise.

    ``exports`` are files of `spineone_core.network.exported` by name, which the package's digest covers too.

    ``write_card`` makes the text of the model card from the manifest and the weights' SHA-256. The manifest holds the
    SHA-256 of the card, so that the package's digest covers it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    configs = {structure.value: ensemble.config for structure, ensemble in (grading or {}).items()}
    manifest = replace(manifest, domain=None if domain is None else domain.config, grading=configs)
    tensors = dict(network.state_dict())
    if domain is not None:
        tensors |= {DOMAIN + name: tensor for name, tensor in domain.state_dict().items()}
    for structure, ensemble in (grading or {}).items():
        tensors |= {f"{GRADING}{structure.value}.{name}": tensor for name, tensor in ensemble.state_dict().items()}
    weights = save({k: v.to(dtype).contiguous() for k, v in tensors.items() if not k.endswith("num_batches_tracked")})
    weights_sha256 = hashlib.sha256(weights).hexdigest()
    card = None if write_card is None else write_card(manifest, weights_sha256).encode()
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in (exports or {}).items()}
    content = manifest.to_json(weights_sha256, None if card is None else hashlib.sha256(card).hexdigest(), hashes)
    text = strict_json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (folder / WEIGHTS).write_bytes(weights)
    for name, data in (exports or {}).items():
        (folder / name).write_bytes(data)
    if card is not None:
        (folder / CARD).write_bytes(card)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return ModelIdentity(name=manifest.name, version=manifest.version, digest=digest)
