"""The paper's tables as configs; `spineone models`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from spineone_core import cli
from spineone_core.anatomy import Structure
from spineone_core.backbones.hourglass import Hourglass
from spineone_core.network import rows
from spineone_core.network.build import build_network
from spineone_core.network.config import ConfigError, NetworkConfig
from spineone_core.network.published import PUBLISHED, as_published
from spineone_core.network.two_stage import TwoStage, cut_crops
from trainer.training.losses import classification_loss


def test_rows__forty_distinct_trainings() -> None:
    assert len(rows.distinct_rows()) == 40
    assert [len(f()) for f in (rows.table_one, rows.table_three, rows.table_four, rows.figure_seven)] == [16, 16, 8, 10]


def test_rows__tables_share_the_trainings_they_repeat() -> None:
    one = {r.digest: r.name for r in rows.table_one()}
    three = rows.table_three()
    shared = [one[r.digest] for r in three if r.digest in one]
    assert shared == [
        "one-stage-deeplabv3plus-resnet50",
        "spineone-deeplabv3plus-resnet50",
        "one-stage-deeplabv3plus-resnet101",
        "spineone-deeplabv3plus-resnet101",
    ]
    digests = {r.digest for r in three}
    assert all(r.digest in digests for r in rows.table_four() if r.network.offset)
    assert [r.network.slices for r in rows.figure_seven() if r.digest in digests] == [7, 7]


def test_rows__digest_sees_network_and_association_only() -> None:
    row = rows.find_row("spineone-fcos-resnet101")
    assert replace(row, name="other", table="III").digest == row.digest
    assert replace(row, association=False).digest != row.digest
    assert replace(row, network=replace(row.network, slices=5)).digest != row.digest


def test_rows__batch_and_rate_are_the_papers() -> None:
    assert [(r.batch, r.learning_rate) for r in (rows.table_one()[0], rows.table_one()[-1])] == [(64, 0.04), (16, 0.01)]


def test_rows__an_unknown_name_says_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="spineone-centernet-resnet101"):
        rows.find_row("yolo")


def test_models__prints_all_sixteen_names_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "measure", lambda config: (58_400_000, 449.2))
    lines = CliRunner().invoke(cli.app, ["models"]).stdout.splitlines()
    blank = lines.index("")
    assert [line.split() for line in lines[1:blank]] == [
        [r.name, "58.4", "M", "449", "223", "MiB"] for r in rows.table_one()
    ]
    assert max(map(len, lines[:blank])) <= 80
    assert [line.split()[0] for line in lines[blank + 2 :]] == list(PUBLISHED)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_models__trunks_have_the_published_numbers_of_parameters(name: str) -> None:
    wanted = PUBLISHED[name].parameters
    assert as_published(name) == (wanted if wanted % 1000 else pytest.approx(wanted, abs=60_000))


def test_rows__are_built_of_the_cited_papers_layers() -> None:
    deeplab = build_network(rows.find_row("one-stage-deeplabv3plus-resnet50").network).backbone
    assert [block.conv2.dilation for block in deeplab.trunk.layer4] == [(2, 2), (4, 4), (8, 8)]
    assert [layer[0].out_channels for layer in deeplab.decoder] == [256, 256, 64]
    old = build_network(NetworkConfig(backbone="resnet50")).backbone
    assert [block.conv2.dilation for block in old.trunk.layer4] == [(2, 2)] * 3
    assert [layer[0].out_channels for layer in old.decoder] == [256, 64]


def test_centernet__deconvolutions_begin_as_interpolation() -> None:
    up = build_network(replace(rows.find_row("one-stage-centernet-resnet101").network, backbone="resnet18")).backbone.up
    picture = torch.arange(36.0).reshape(1, 1, 6, 6).repeat(1, 256, 1, 1)
    larger = up[0][1](picture)
    wanted = torch.nn.functional.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(larger[..., 2:-2, 2:-2], wanted[..., 2:-2, 2:-2], atol=1e-4)


def test_hourglass__the_way_up_changes_channels_in_its_last_block() -> None:
    level = Hourglass("hourglass52", in_channels=1, out_channels=8, width=8, reversed_up=True).levels[0].inner
    sizes = [(block.first[0].in_channels, block.first[0].out_channels) for block in level.up]
    assert sizes == [(48, 48), (48, 32)]


def test_measure__counts_attention_and_the_classifier() -> None:
    parameters, gflop = cli.measure(rows.BUILDERS["spineone-deeplabv3plus-resnet50"])
    plain_parameters, plain = cli.measure(rows.BUILDERS["one-stage-deeplabv3plus-resnet50"])
    assert parameters / 1e6 == pytest.approx(39.9, abs=0.1)
    # PAM of both branches at 160 x 160: two products of 25,600 x 25,600 with 8 and 64 channels, two operations each.
    assert gflop - plain == pytest.approx(2 * 2 * 25_600**2 * 72 / 1e9, rel=0.02)
    assert abs(parameters - plain_parameters) < 20_000


@pytest.mark.parametrize("name", list(rows.BUILDERS))
def test_builder__maps_have_the_channels_of_its_heatmap(name: str) -> None:
    config = rows.BUILDERS[name]
    with torch.device("meta"):
        outputs = build_network(config).eval()(torch.empty(1, 7, 64, 64))
    expected = {"one-stage": (7, 10), "spineone": (2, 4), "two-stage": (5, 10)}
    channels = next(v for k, v in expected.items() if name.startswith(k))
    for structure in Structure:
        assert outputs[structure].offsets is not None
        assert (outputs[structure].logits.shape[1], outputs[structure].offsets.shape[1]) == channels
        assert outputs[structure].logits.shape[-2:] == (64, 64)
        assert len(outputs[structure].earlier) == (1 if "hourglass104" in name else 0)


# ---------------------------------------------------------------- crops and their classifier


def test_crops__are_centred_on_the_keypoint() -> None:
    columns, lines = torch.meshgrid(torch.arange(80.0), torch.arange(60.0), indexing="xy")
    images = torch.stack([columns, lines])[None]
    points = torch.tensor([[[30.25, 20.5], [41.0, 33.0]]])
    crops = cut_crops(images, points, side=20.0, pixels=10)
    assert crops.shape == (2, 2, 10, 10)
    assert torch.allclose(crops.mean(dim=(2, 3)), points[0], atol=1e-3)
    assert torch.allclose(crops[0, 0, 0, 1:] - crops[0, 0, 0, :-1], torch.full((9,), 2.0), atol=1e-3)


def test_classifier__answers_for_ten_keypoints_and_ignores_unknown_classes() -> None:
    config = NetworkConfig(
        architecture="hourglass", backbone="hourglass52", heatmap="levels", slices=1, width=8, crop_px=32
    )
    network = build_network(config)
    assert isinstance(network, TwoStage)
    logits = network.classify(torch.randn(2, 1, 64, 64), torch.full((2, 10, 2), 30.0), 1.0)
    assert logits.shape == (2, 10, 2)
    assert classification_loss(logits, torch.full((2, 10), -1)) == 0
    assert classification_loss(logits, torch.zeros(2, 10, dtype=torch.long)) > 0
    with pytest.raises(ValueError, match="spacing 0"):
        network.classify(torch.randn(2, 1, 64, 64), torch.zeros(2, 10, 2), 0)


def test_two_stage__needs_a_heatmap_of_levels() -> None:
    with pytest.raises(ConfigError, match="levels"):
        TwoStage(NetworkConfig())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "unet"}, "deeplabv3plus, fpn"),
        ({"architecture": "fcos", "backbone": "hrnet_w32"}, "resnet101"),
        ({"heatmap": "gauss"}, "conventional"),
        ({"crop_mm": 1.0}, "10 to 200"),
    ],
)
def test_config__names_what_is_allowed(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NetworkConfig.from_json(change)


def test_config__manifests_without_the_newer_fields_load() -> None:
    old = NetworkConfig(backbone="resnet18", slices=1).to_json()
    for name in ("architecture", "heatmap", "crop_mm", "crop_px"):
        old.pop(name)
    assert NetworkConfig.from_json(old) == NetworkConfig(backbone="resnet18", slices=1)
