"""The baselines: parameters, names and outputs as the released models have them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from merstore.errors import MerstoreError
from merstore.models.baselines import MODELS
from merstore.models.baselines.blocks import ROLES, parameters_of
from merstore.models.baselines.misa import moment_distance, overlap

DIMS = (1024, 5120, 768)
EXTRA = {
    "lmf": {"rank": 3},
    "misa": {"sim_weight": 0.1, "diff_weight": 0.1, "recon_weight": 0.1},
    "mmim": {"cpc_layers": 2, "alpha": 0.1, "beta": 0.1},
}
OF_ROLES = [name for name in MODELS if name != "attention_topn"]


def build(name: str, dims=(5, 7, 3), classes=6, values=1, hidden_dim=8, **how):
    return MODELS[name](
        dims, classes, values, hidden_dim=hidden_dim, dropout=0.3, **EXTRA.get(name, {}), **how
    )


@pytest.mark.parametrize(
    ("hidden_dim", "values", "feat_type", "count"),
    [
        (64, 0, "utt", 488_777),
        (128, 0, "utt", 1_067_657),
        (128, 1, "utt", 1_067_786),
        (256, 0, "utt", 2_495_753),
        (128, 0, "frm_align", 3_871_625),
        (128, 0, "frm_unalign", 3_871_625),
    ],
)
def test_attention_has_the_released_number_of_parameters(
    hidden_dim: int, values: int, feat_type: str, count: int
) -> None:
    model = build("attention", DIMS, values=values, hidden_dim=hidden_dim, feat_type=feat_type)
    assert parameters_of(model) == count


def test_attention_topn_has_the_released_number_of_parameters() -> None:
    assert (
        parameters_of(build("attention_topn", [1024] * 18, values=0, hidden_dim=128)) == 3_287_192
    )


def test_tfn_has_the_released_number_of_parameters() -> None:
    with torch.device("meta"):
        model = build("tfn", DIMS, values=0, hidden_dim=128)
    assert round(parameters_of(model) / 1e6, 1) == 275.8


def test_attentions_parameters_have_the_released_names_and_shapes() -> None:
    shapes = {
        name: tuple(x.shape)
        for name, x in build("attention", DIMS, values=0, hidden_dim=128).named_parameters()
    }
    expected = {}
    for role, size in (("audio", 1024), ("text", 5120), ("video", 768)):
        for layer, width in ((1, size), (2, 128), (3, 128)):
            expected[f"{role}_encoder.linear_{layer}.weight"] = (128, width)
            expected[f"{role}_encoder.linear_{layer}.bias"] = (128,)
    for layer, width in ((1, 384), (2, 128), (3, 128)):
        expected[f"attention_mlp.linear_{layer}.weight"] = (128, width)
        expected[f"attention_mlp.linear_{layer}.bias"] = (128,)
    expected |= {"fc_att.weight": (3, 128), "fc_att.bias": (3,)}
    expected |= {"fc_out_1.weight": (6, 128), "fc_out_1.bias": (6,)}
    expected |= {"fc_out_2.weight": (0, 128), "fc_out_2.bias": (0,)}
    assert shapes == expected
    assert list(shapes)[-8:-4] == ["attention_mlp.linear_3.weight", "attention_mlp.linear_3.bias",
                                   "fc_att.weight", "fc_att.bias"]  # fmt: skip


def test_attention_computes_what_it_is_defined_as() -> None:
    model = build("attention").eval()
    batch = {role: torch.randn(4, size) for role, size in zip(ROLES, (5, 7, 3), strict=True)}

    def mlp(name: str, x: torch.Tensor) -> torch.Tensor:
        for layer in (1, 2, 3):
            x = functional.relu(
                functional.linear(x, *model.get_submodule(f"{name}.linear_{layer}").parameters())
            )
        return x

    audio, text, video = (mlp(f"{role[:-1]}_encoder", x) for role, x in batch.items())
    weights = model.fc_att(mlp("attention_mlp", torch.cat([audio, text, video], 1)))
    fused = sum(w[:, None] * x for w, x in zip(weights.T, (audio, text, video), strict=True))
    features, logits, values, own = model(batch)
    torch.testing.assert_close(features, fused)
    torch.testing.assert_close(logits, model.fc_out_1(fused))
    torch.testing.assert_close(values, model.fc_out_2(fused))
    assert own == 0


def test_attention_topn_with_three_inputs_is_attention() -> None:
    torch.manual_seed(3)
    one = build("attention").eval()
    torch.manual_seed(3)
    other = build("attention_topn").eval()
    inputs = [torch.randn(4, size) for size in (5, 7, 3)]
    a = one(dict(zip(ROLES, inputs, strict=True)))
    b = other({f"feat{i}": x for i, x in enumerate(inputs)})
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_seed_makes_the_weights_that_pytorch_makes_in_this_order() -> None:
    torch.manual_seed(7)
    model = build("attention")
    torch.manual_seed(7)
    plain = [nn.Linear(i, 8) for size in (5, 7, 3, 24) for i in (size, 8, 8)]
    plain += [nn.Linear(8, 3), nn.Linear(8, 6), nn.Linear(8, 1)]
    expected = [x for layer in plain for x in layer.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected, strict=True))


@pytest.mark.parametrize("feat_type", ["utt", "frm_align", "frm_unalign"])
@pytest.mark.parametrize("name", OF_ROLES)
def test_all_give_features_logits_values_and_a_loss_that_learns(name: str, feat_type: str) -> None:
    model = build(name, feat_type=feat_type)
    length = () if feat_type == "utt" else (4,)
    batch = {role: torch.randn(9, *length, d) for role, d in zip(ROLES, (5, 7, 3), strict=True)}
    features, logits, values, own = model(batch)
    assert features.shape[0] == 9
    assert (logits.shape, values.shape, own.shape) == ((9, 6), (9, 1), ())
    (logits.sum() + values.sum() + own).backward()
    assert all(torch.isfinite(x.grad).all() for x in model.parameters() if x.grad is not None)


def test_a_batch_of_one_goes_through() -> None:
    for name in OF_ROLES:
        batch = {role: torch.randn(1, d) for role, d in zip(ROLES, (5, 7, 3), strict=True)}
        assert build(name).eval()(batch)[1].shape == (1, 6)


def test_lmf_is_the_sum_over_ranks_of_products() -> None:
    model = build("lmf").eval()
    batch = {role: torch.randn(4, d) for role, d in zip(ROLES, (5, 7, 3), strict=True)}
    audio, text, video = (torch.cat([torch.ones(4, 1), x], 1) for x in model.encode(batch))
    fused = model.fusion_bias + sum(
        weight * (audio @ a) * (video @ v) * (text @ t)
        for weight, a, v, t in zip(
            model.fusion_weights[0], model.audio_factor, model.video_factor, model.text_factor,
            strict=True,
        )
    )  # fmt: skip
    torch.testing.assert_close(model(batch)[0], fused)


def test_misas_losses_are_none_between_what_is_the_same_or_apart() -> None:
    x = torch.randn(6, 4)
    assert float(moment_distance(x, x)) == pytest.approx(0, abs=1e-4)
    assert float(moment_distance(x, x + 1)) == pytest.approx(2.0, rel=1e-3)
    assert float(overlap(x, torch.zeros(6, 4))) == 0
    assert float(overlap(x, x)) > 0


@pytest.mark.parametrize(("count", "feat_type"), [(19, "utt"), (0, "utt"), (3, "frm_align")])
def test_attention_topn_says_what_it_takes(count: int, feat_type: str) -> None:
    with pytest.raises(MerstoreError, match="1 to 18 inputs"):
        build("attention_topn", [4] * count, feat_type=feat_type)
