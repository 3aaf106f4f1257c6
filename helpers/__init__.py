"""Helpers of the transfer-learning assignment: the names that its notebooks use."""

from helpers.comparison import Table, compare_pairs, comparison_table
from helpers.comparison_plots import (
    plot_calibration,
    plot_confusion,
    plot_results,
    show_confident_mistakes,
    show_confused,
)
from helpers.data import Data, load_data
from helpers.errors import KitError
from helpers.features import compute_features
from helpers.lib.weights import pretrained_weights
from helpers.model_card import model_card
from helpers.models import check_head, count_parameters, freeze, summarize
from helpers.network_plots import (
    draw_network,
    plot_batchnorm,
    plot_features,
    plot_layer_changes,
    show_feature_maps,
)
from helpers.networks import classify_photo, compare_grad_cam, load_trained
from helpers.plots import (
    imshow,
    plot_accuracy_against_count,
    plot_class_balance,
    plot_history,
    plot_picture_sizes,
    plot_schedule,
    show_predictions,
    show_samples,
)
from helpers.recipes import METHODS, get_recipe
from helpers.results import load_results, save_result
from helpers.scores import test
from helpers.tour import describe_data, duplicates_across_splits
from helpers.training import evaluate, train_model
from helpers.workspace import choose_dataset, start
