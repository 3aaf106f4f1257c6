"""What `import helpers` gives: the one list of these names, for Python and for editors."""

from .activations import watch_inputs
from .compact_networks import (
    densenet_like,
    five_block_cnn,
    resnet_heavy,
    resnet_light,
    resnext_like,
    three_conv_cnn,
    vgg_like,
)
from .data import (
    channel_statistics,
    describe_data,
    duplicates_across_splits,
    few_per_class,
    load_data,
    only_classes,
    picture_sizes,
    without_augmentation,
)
from .extension_recipes import get_extension_recipe
from .fault_lab import FaultLab, train_one_epoch
from .models import (
    bn_cnn,
    check_head,
    count_macs,
    count_parameters,
    decay_groups,
    efficientnet_b5,
    freeze,
    newnet,
    replace_head,
    resnet18,
    summarize,
)
from .network_plots import (
    classify_photo,
    compare_grad_cam,
    draw_network,
    plot_activations,
    plot_batchnorm,
    plot_features,
    plot_filters,
    plot_layer_changes,
    show_feature_maps,
    show_grad_cam,
)
from .plots import (
    imshow,
    plot_accuracy_against_costs,
    plot_accuracy_against_count,
    plot_accuracy_against_time,
    plot_accuracy_over_time,
    plot_claims,
    plot_class_accuracy,
    plot_class_balance,
    plot_comparison,
    plot_faults,
    plot_history,
    plot_picture_sizes,
    plot_schedule,
    plot_val_curves,
    plot_with_and_without,
    show_augmentation,
    show_confused,
    show_predictions,
    show_samples,
)
from .recipes import METHODS, get_recipe
from .results import (
    compare_pairs,
    comparison_table,
    format_table,
    load_results,
    save_result,
)
from .trained import load_trained
from .training import autocast, compute_features, test, train_model
from .workspace import choose_dataset, start
