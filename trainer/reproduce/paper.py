"""The figures that the paper prints (He et al. 2021); ours are shown beside them."""

from __future__ import annotations

# Recall, precision and F1 of discs, then of vertebrae.
Six = tuple[float, float, float, float, float, float]
SIX_NAMES = (
    "disc recall",
    "disc precision",
    "disc F1",
    "vertebra recall",
    "vertebra precision",
    "vertebra F1",
)

# In the order of ``rows.table_one()``.
TABLE_ONE: tuple[Six, ...] = (
    (0.800, 0.831, 0.815, 0.773, 0.797, 0.785),
    (0.808, 0.837, 0.822, 0.782, 0.801, 0.791),
    (0.809, 0.839, 0.823, 0.771, 0.790, 0.780),
    (0.816, 0.844, 0.829, 0.788, 0.807, 0.797),
    (0.802, 0.836, 0.818, 0.755, 0.778, 0.766),
    (0.811, 0.845, 0.827, 0.767, 0.795, 0.781),
    (0.814, 0.848, 0.830, 0.770, 0.798, 0.783),
    (0.813, 0.848, 0.830, 0.763, 0.784, 0.774),
    (0.819, 0.855, 0.836, 0.774, 0.795, 0.785),
    (0.817, 0.851, 0.833, 0.774, 0.802, 0.788),
    (0.837, 0.869, 0.852, 0.806, 0.827, 0.816),
    (0.843, 0.875, 0.858, 0.816, 0.837, 0.827),
    (0.849, 0.878, 0.863, 0.822, 0.842, 0.832),
    (0.847, 0.873, 0.860, 0.811, 0.834, 0.823),
    (0.859, 0.891, 0.874, 0.840, 0.859, 0.849),
    (0.859, 0.888, 0.872, 0.839, 0.860, 0.849),
)

# Micro average precision of all categories, PCK-6. The winner's figure is not legible in our copy of the text.
TABLE_TWO = {"third team": 0.679, "second team": 0.690}
TABLE_TWO_SPINEONE = 0.716
# Seconds for an exam on a V100 (Section IV-D): one-stage SpineOne; the two-stage methods are only said to need more than this.
SECONDS_ONE_STAGE = 0.029
SECONDS_TWO_STAGE_OVER = 0.3

# In the order of ``rows.table_three()``.
TABLE_THREE: tuple[Six, ...] = (
    (0.813, 0.848, 0.830, 0.763, 0.784, 0.774),
    (0.827, 0.856, 0.841, 0.783, 0.797, 0.790),
    (0.838, 0.865, 0.851, 0.790, 0.812, 0.801),
    (0.829, 0.859, 0.843, 0.785, 0.802, 0.793),
    (0.841, 0.868, 0.854, 0.800, 0.823, 0.811),
    (0.823, 0.851, 0.836, 0.776, 0.792, 0.784),
    (0.832, 0.861, 0.846, 0.785, 0.806, 0.795),
    (0.847, 0.873, 0.860, 0.811, 0.834, 0.823),
    (0.819, 0.855, 0.836, 0.774, 0.795, 0.785),
    (0.836, 0.870, 0.852, 0.796, 0.816, 0.806),
    (0.850, 0.882, 0.865, 0.816, 0.838, 0.827),
    (0.847, 0.878, 0.861, 0.810, 0.832, 0.821),
    (0.853, 0.885, 0.868, 0.826, 0.848, 0.837),
    (0.830, 0.864, 0.846, 0.790, 0.810, 0.800),
    (0.844, 0.875, 0.859, 0.805, 0.827, 0.816),
    (0.859, 0.891, 0.874, 0.840, 0.859, 0.849),
)

# In the order of ``rows.table_four()``.
TABLE_FOUR: tuple[Six, ...] = (
    (0.824, 0.853, 0.838, 0.774, 0.796, 0.785),
    (0.827, 0.856, 0.841, 0.783, 0.797, 0.790),
    (0.837, 0.862, 0.849, 0.792, 0.817, 0.804),
    (0.841, 0.868, 0.854, 0.800, 0.823, 0.811),
    (0.833, 0.861, 0.846, 0.791, 0.816, 0.803),
    (0.836, 0.870, 0.852, 0.796, 0.816, 0.806),
    (0.849, 0.874, 0.861, 0.820, 0.843, 0.831),
    (0.853, 0.885, 0.868, 0.826, 0.848, 0.837),
)

# Detection rates of Table V.
TABLE_FIVE = {
    "Chen et al. [14]": 0.8416,
    "Yang et al. [60]": 0.8500,
    "Liao et al. [61]": 0.8830,
    "Chen et al. [62]": 0.9467,
}
TABLE_FIVE_SPINEONE = 0.9455

# Fig. 7 prints only curves; the text gives the rows with 7 slices (Table III with OCPC alone): F1 of discs and vertebrae.
FIGURE_SEVEN_F1 = {("resnet50", 7): (0.841, 0.790), ("resnet101", 7): (0.852, 0.806)}

# Fig. 8: row -> distance in mm -> PCK, as far as the text gives it.
FIGURE_EIGHT: dict[str, dict[int, float]] = {
    "one-stage-deeplabv3plus-resnet101": {6: 0.887, 10: 0.955},
    "spineone-deeplabv3plus-resnet101": {6: 0.915, 10: 0.979},
    "two-stage-hourglass104-resnet18": {},
    "two-stage-hrnet-w48-resnet18": {},
}

# From Sections IV-A and IV-C.
TRAINING_EXAMS, TEST_EXAMS, EPOCHS = 400, 150, 300
