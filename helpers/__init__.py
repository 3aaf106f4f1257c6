"""Helpers of the transfer-learning assignment: the names that its notebooks use."""

from helpers.comparison import Table, compare_pairs, comparison_table
from helpers.data import Data, load_data
from helpers.errors import KitError
from helpers.features import compute_features
from helpers.models import (
    bn_cnn,
    check_head,
    count_parameters,
    efficientnet_b5,
    freeze,
    replace_head,
    resnet18,
    summarize,
)
from helpers.network_plots import (
    draw_network,
    plot_activations,
    plot_batchnorm,
    plot_features,
    plot_filters,
    plot_layer_changes,
    show_feature_maps,
    watch_inputs,
)
from helpers.networks import classify_photo, compare_grad_cam, load_trained
from helpers.plots import (
    imshow,
    plot_accuracy_against_count,
    plot_class_accuracy,
    plot_class_balance,
    plot_history,
    plot_picture_sizes,
    plot_results,
    plot_schedule,
    show_confused,
    show_predictions,
    show_samples,
)
from helpers.recipes import METHODS, get_recipe
from helpers.results import load_results, save_result
from helpers.scores import test
from helpers.tour import channel_statistics, describe_data, duplicates_across_splits
from helpers.training import evaluate, train_model
from helpers.workspace import choose_dataset, start
