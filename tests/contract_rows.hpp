// The layers of the contract's test: at least one row for each registered type. A new layer adds its own.
#pragma once

#include "contract.hpp"

namespace crema {

inline std::vector<ContractRow> ActivationRows() {
  const std::vector<ContractBottom> image = {{{2, 32, 3, 5}}}, vector = {{{3, 7}}};
  return {
      {"ReLU", "", "", image},
      {"ReLU", "leaky", "relu_param { negative_slope: 0.1 }", vector},
      {"ReLU", "turned", "relu_param { negative_slope: -0.5 }", vector},
      {"PReLU", "", "", image},
      {"PReLU", "shared", "prelu_param { channel_shared: true }", image},
      {"PReLU", "vector", "", vector},
      {"Sigmoid", "", "", image},
      {"TanH", "", "", image},
      {"AbsVal", "", "", image},
      {"BNLL", "", "", image},
      {"Clip", "", "clip_param { min: -0.5 max: 0.75 }", image},
      {"ELU", "", "", image},
      {"ELU", "turned", "elu_param { alpha: -0.5 }", vector},
      {"Exp", "", "", image},
      {"Exp", "base", "exp_param { base: 2 scale: 0.5 shift: 1 }", vector},
      {"Log", "", "", {{{2, 32, 3, 5}, Fill::kPositive}}},
      {"Log", "base", "log_param { base: 10 scale: 2 shift: 0.5 }", {{{3, 7}, Fill::kPositive}}},
      {"Power", "", "", image},
      {"Power", "square", "power_param { power: 2 scale: 0.5 shift: -1 }", image},
      {"Power", "root", "power_param { power: 0.5 scale: 2 shift: 1 }", {{{3, 7}, Fill::kPositive}}},
      {"Power", "constant", "power_param { power: 0 }", vector},
      {"Power", "unscaled", "power_param { power: 3 scale: 0 shift: 2 }", vector},
      {"Swish", "", "", image},
      {"Swish", "beta", "swish_param { beta: 1.5 }", vector},
      {"Threshold", "", "threshold_param { threshold: 0.5 }", image},
      {"Dropout", "", "dropout_param { dropout_ratio: 0.3 }", image},
      {"Dropout", "vector", "", vector},
      {"Dropout", "test", "", image, 1, TEST},
      {"Softmax", "", "", vector},
      {"Softmax", "positions", "", {{{2, 4, 2, 3}}}},
      {"Softmax", "axis_2", "softmax_param { axis: -2 }", {{{2, 2, 5, 3}}}},
      {"Normalize", "", "norm_param { }", image},
      {"Normalize", "positions", "norm_param { across_spatial: false channel_shared: false }", image},
      {"Normalize", "channels", "norm_param { channel_shared: false }", image},
      {"Normalize", "vector", "norm_param { across_spatial: false }", vector},
      {"BatchNorm", "", "", image, 1, TRAIN, 1e-6, 1e-3},
      {"BatchNorm", "vector", "", {{{6, 5}}}, 1, TRAIN, 1e-6, 1e-3},
      {"BatchNorm", "running", "", image, 1, TEST},
      {"BatchNorm", "global", "batch_norm_param { use_global_stats: true }", image},
      {"LRN", "", "lrn_param { alpha: 0.5 }", image},
      {"LRN", "wide", "lrn_param { local_size: 9 alpha: 2 beta: 0.5 k: 2 }", {{{2, 6, 3, 2}}}},
      {"LRN", "within", "lrn_param { local_size: 3 alpha: 2 norm_region: WITHIN_CHANNEL }", image},
      {"MVN", "", "", image},
      {"MVN", "samples", "mvn_param { across_channels: true }", image},
      {"MVN", "mean", "mvn_param { normalize_variance: false }", image},
      {"MVN", "vector", "mvn_param { across_channels: true eps: 1e-3 }", vector, 1, TRAIN, 1e-2},
  };
}

inline std::vector<ContractRow> WeightRows() {
  const std::vector<ContractBottom> image = {{{2, 32, 5, 4}}}, small = {{{2, 4, 6, 5}}};
  return {
      {"Convolution", "", "convolution_param { num_output: 32 kernel_size: 3 pad: 1 stride: 2 }", image},
      {"Convolution", "plain", "convolution_param { num_output: 3 kernel_size: 1 bias_term: false }", small},
      {"Convolution", "groups", "convolution_param { num_output: 6 group: 2 kernel_size: 2 }", small},
      {"Convolution", "dilated", "convolution_param { num_output: 2 kernel_size: 3 dilation: 2 pad: 2 }",
       small},
      {"Convolution", "oblong",
       "convolution_param { num_output: 2 kernel_h: 3 kernel_w: 1 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 0 "
       "}",
       small},
      {"Convolution", "depthwise", "convolution_param { num_output: 32 group: 32 kernel_size: 3 pad: 1 }",
       image},
      {"Deconvolution", "", "convolution_param { num_output: 32 kernel_size: 3 pad: 1 stride: 2 }", image},
      {"Deconvolution", "plain", "convolution_param { num_output: 3 kernel_size: 2 bias_term: false }",
       small},
      {"Deconvolution", "upsampling",
       "convolution_param { num_output: 32 group: 32 kernel_size: 4 pad: 1 stride: 2 bias_term: false }",
       image},
      {"Deconvolution", "groups",
       "convolution_param { num_output: 6 group: 2 kernel_h: 2 kernel_w: 3 stride: 2 stride: 1 dilation: 2 }",
       small},
      {"Im2col", "", "convolution_param { kernel_size: 3 pad: 1 stride: 2 }", small},
      {"Im2col", "dilated", "convolution_param { kernel_h: 2 kernel_w: 3 dilation: 2 }", small},
      {"Embed", "", "embed_param { num_output: 3 input_dim: 6 }", {{{5}, Fill::kLabel, 6}}},
      {"Embed",
       "table",
       "embed_param { num_output: 4 input_dim: 3 bias_term: false }",
       {{{4, 2}, Fill::kLabel, 3}}},
      {"Parameter", "", "parameter_param { shape { dim: 3 dim: 4 } }", {}, 1, TRAIN, 1e-6, 1e-4, 0},
      {"InnerProduct", "", "inner_product_param { num_output: 5 }", small},
      {"InnerProduct",
       "transposed",
       "inner_product_param { num_output: 5 transpose: true bias_term: false }",
       {{{3, 7}}}},
      {"Scale", "", "scale_param { bias_term: true }", image},
      {"Scale", "vector", "", {{{3, 7}}}},
      {"Scale", "axes", "scale_param { axis: 1 num_axes: 2 bias_term: true }", small},
      {"Scale", "two_bottoms", "scale_param { axis: 0 }", {{{3, 4, 2, 2}}, {{3, 4}}}},
      {"Scale", "two_bottoms_bias", "scale_param { axis: 1 bias_term: true }", {{{3, 4, 2, 2}}, {{4}}}},
      {"Bias", "", "", image},
      {"Bias", "vector", "", {{{3, 7}}}},
      {"Bias", "axes", "bias_param { axis: 1 num_axes: -1 }", small},
      {"Bias", "two_bottoms", "bias_param { axis: 0 }", {{{3, 4, 2, 2}}, {{3, 4}}}},
      {"DistPartialFC", "", "dist_partial_fc_param { num_output: 9 }", {{{4, 6}}, {{4}, Fill::kLabel, 9}}, 2},
      {"DistPartialFC",
       "sampled",
       "dist_partial_fc_param { num_output: 20 sample_rate: 0.4 }",
       {{{4, 6}}, {{4}, Fill::kLabel, 20}},
       2},
  };
}

inline std::vector<ContractRow> ShapeRows() {
  const std::vector<ContractBottom> image = {{{2, 32, 5, 4}}}, distinct = {{{2, 32, 6, 5}, Fill::kDistinct}};
  const std::vector<ContractBottom> three = {{{2, 4, 3, 2}}, {{2, 1, 3, 2}}, {{2, 3, 3, 2}}};
  const std::vector<ContractBottom> equal = {
      {{2, 32, 2, 3}, Fill::kDistinct}, {{2, 32, 2, 3}, Fill::kDistinct}, {{2, 32, 2, 3}, Fill::kDistinct}};
  return {
      {"Input", "", "input_param { shape { dim: 2 dim: 3 } }", {}, 1, TRAIN, 0, 0, 0},
      {"Pooling", "max", "pooling_param { kernel_size: 3 stride: 2 }", distinct},
      {"Pooling", "max_padded", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", distinct},
      {"Pooling", "max_floor", "pooling_param { kernel_size: 2 stride: 2 round_mode: FLOOR }", distinct},
      {"Pooling", "max_and_mask", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", distinct, 2},
      {"Pooling", "max_global", "pooling_param { global_pooling: true }", distinct},
      {"Pooling", "ave", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", image},
      {"Pooling", "ave_oblong", "pooling_param { pool: AVE kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 }",
       image},
      {"Pooling", "ave_global", "pooling_param { pool: AVE global_pooling: true }", image},
      {"Pooling",
       "stochastic",
       "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }",
       {{{2, 32, 6, 5}, Fill::kPositive}}},
      {"Pooling",
       "stochastic_test",
       "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }",
       {{{2, 32, 6, 5}, Fill::kPositive}},
       1,
       TEST},
      {"Pooling", "ave_apart", "pooling_param { pool: AVE kernel_size: 1 stride: 3 }", image},
      {"Flatten", "", "", image},
      {"Flatten", "axes", "flatten_param { axis: -3 end_axis: 2 }", {{{2, 3, 4, 2}}}},
      {"Reshape", "", "reshape_param { shape { dim: 0 dim: -1 dim: 4 } }", image},
      {"Reshape", "axes", "reshape_param { shape { dim: 2 dim: -1 } axis: 1 num_axes: 1 }", image},
      {"Concat", "", "", three},
      {"Concat", "batch", "concat_param { axis: 0 }", {{{2, 32, 2, 1}}, {{2, 32, 2, 1}}}},
      {"Concat", "width", "concat_param { axis: -1 }", {{{2, 3, 4}}, {{2, 3, 1}}}},
      {"Slice", "", "slice_param { slice_point: 1 slice_point: 3 }", {{{2, 4, 3, 2}}}, 3},
      {"Slice", "batch", "slice_param { axis: 0 }", {{{4, 32, 2, 1}}}, 2, TRAIN, 1e-6, 1e-4, 2},
      {"Slice", "older", "slice_param { slice_dim: 2 }", {{{2, 3, 4}}}, 2},
      {"Eltwise", "sum", "", equal},
      {"Eltwise", "coeff", "eltwise_param { coeff: 1 coeff: -0.5 coeff: 2 }", equal},
      {"Eltwise", "max", "eltwise_param { operation: MAX }", equal},
      {"Eltwise", "product", "eltwise_param { operation: PROD }", {{{3, 5}}, {{3, 5}}, {{3, 5}}}},
      {"Eltwise",
       "quotient",
       "eltwise_param { operation: PROD stable_prod_grad: false }",
       {{{3, 5}}, {{3, 5}}}},
      {"Silence", "", "", {{{2, 3, 2, 2}}, {{4}}}, 0},
      {"HDF5Output",
       "",
       "hdf5_output_param { file_name: 'contract_test.h5' }",
       {{{2, 3}}, {{2}, Fill::kLabel, 4}},
       0},
      {"Split", "", "", image, 3},
      {"Tile", "", "tile_param { tiles: 3 }", image},
      {"Tile", "batch", "tile_param { axis: 0 tiles: 2 }", {{{2, 3}}}},
      {"Crop", "", "crop_param { offset: 1 }", {{{2, 4, 6, 5}}, {{2, 3, 4, 3}}}},
      {"Crop",
       "axes",
       "crop_param { axis: 1 offset: 1 offset: 2 offset: 0 }",
       {{{2, 4, 6, 5}}, {{2, 2, 3, 4}}}},
      {"BatchReindex", "", "", {{{4, 32, 2, 3}}, {{6}, Fill::kLabel, 3}}},
      {"Filter", "", "", {{{5, 32, 2, 2}}, {{5}, Fill::kLabel, 9}, {{5}, Fill::kLabel, 2}}, 2},
      {"Reduction", "", "", {{{3, 4, 2}}}},
      {"Reduction", "channels", "reduction_param { operation: MEAN axis: 1 coeff: 2 }", image},
      {"Reduction", "asum", "reduction_param { operation: ASUM axis: 1 }", image},
      {"Reduction", "sumsq", "reduction_param { operation: SUMSQ axis: -1 coeff: 0.5 }", image},
      {"ArgMax", "", "", image},
      {"ArgMax", "values", "argmax_param { out_max_val: true top_k: 3 }", image},
      {"ArgMax", "axis", "argmax_param { axis: 1 top_k: 2 }", image},
      {"SPP", "", "spp_param { pyramid_height: 3 }", {{{2, 3, 9, 8}, Fill::kDistinct}}},
      {"SPP", "one", "spp_param { pyramid_height: 1 }", distinct},
      {"SPP", "ave", "spp_param { pyramid_height: 2 pool: AVE }", image},
      {"DummyData",
       "",
       "dummy_data_param { shape { dim: 3 dim: 4 } data_filler { type: 'gaussian' } }",
       {},
       2,
       TRAIN,
       0,
       1e-4,
       0},
  };
}

inline std::vector<ContractRow> LossRows() {
  const ContractBottom scores{{5, 4}}, label{{5}, Fill::kLabel, 4};
  const ContractBottom maps{{2, 3, 2, 4}}, map_label{{2, 1, 2, 4}, Fill::kLabel, 3};
  const ContractBottom cosines{{4, 6}, Fill::kCosine}, cosine_label{{4}, Fill::kLabel, 6};
  return {
      {"EuclideanLoss", "", "", {{{3, 4}}, {{3, 4}}}},
      {"EuclideanLoss", "image", "", {{{3, 32, 2, 2}}, {{3, 32, 2, 2}}}},
      {"SoftmaxWithLoss", "", "", {scores, label}, 2},
      {"SoftmaxWithLoss", "positions", "", {maps, map_label}},
      {"SoftmaxWithLoss", "ignored", "loss_param { ignore_label: 1 }", {maps, map_label}},
      {"SoftmaxWithLoss", "full", "loss_param { ignore_label: 1 normalization: FULL }", {maps, map_label}},
      {"SoftmaxWithLoss", "batch", "loss_param { normalization: BATCH_SIZE }", {maps, map_label}},
      {"SoftmaxWithLoss", "none", "loss_param { normalization: NONE }", {scores, label}},
      {"SoftmaxWithLoss", "older", "loss_param { normalize: false }", {maps, map_label}},
      {"SoftmaxWithLoss", "axis_2", "softmax_param { axis: 2 }", {{{2, 3, 4}}, {{2, 3}, Fill::kLabel, 4}}},
      {"ContrastiveLoss",
       "",
       "contrastive_loss_param { margin: 4 }",
       {{{5, 3}}, {{5, 3}}, {{5}, Fill::kLabel, 2}},
       1,
       TRAIN,
       1e-3},  // Caffe's gradient adds 1e-4 to the distance
      {"ContrastiveLoss",
       "legacy",
       "contrastive_loss_param { margin: 9 legacy_version: true }",
       {{{5, 3, 1, 1}}, {{5, 3, 1, 1}}, {{5}, Fill::kLabel, 2}}},
      {"HingeLoss", "", "", {scores, label}},
      {"HingeLoss", "squared", "hinge_loss_param { norm: L2 }", {scores, label}},
      {"InfogainLoss", "", "", {scores, label, {{4, 4}}}, 2},
      {"InfogainLoss",
       "ignored",
       "loss_param { ignore_label: 1 normalization: FULL }",
       {maps, map_label, {{3, 3}}}},
      {"InfogainLoss",
       "axis_2",
       "infogain_loss_param { axis: -1 }",
       {{{2, 3, 4}}, {{2, 3}, Fill::kLabel, 4}, {{1, 1, 4, 4}}}},
      {"MultinomialLogisticLoss", "", "", {{{5, 4}, Fill::kPositive}, label}},
      {"SigmoidCrossEntropyLoss", "", "", {{{3, 4}}, {{3, 4}, Fill::kPositive}}},
      {"SigmoidCrossEntropyLoss",
       "ignored",
       "loss_param { ignore_label: 0 normalization: VALID }",
       {maps, {{2, 3, 2, 4}, Fill::kLabel, 2}}},
      {"SigmoidCrossEntropyLoss", "full", "loss_param { normalization: FULL }", {maps, {{2, 3, 2, 4}}}},
      {"Accuracy", "", "", {scores, label}, 2},
      {"Accuracy", "top_2", "accuracy_param { top_k: 2 ignore_label: 0 }", {maps, map_label}},
      {"MarginSoftmax", "arc", "margin_softmax_param { scale: 8 m2: 0.5 }", {cosines, cosine_label}},
      {"MarginSoftmax", "cos", "margin_softmax_param { scale: 8 m3: 0.4 }", {cosines, cosine_label}},
      {"MarginSoftmax", "sphere", "margin_softmax_param { scale: 8 m1: 1.7 }", {cosines, cosine_label}},
      {"MarginSoftmax",
       "filter",
       "margin_softmax_param { scale: 8 m2: 0.3 interclass_filter_threshold: 0.4 }",
       {cosines, cosine_label}},
      {"VerificationAccuracy",
       "",
       "verification_param { folds: 2 far: 0.5 }",
       {{{12, 4}}, {{12}, Fill::kPairLabel}},
       2,
       TEST,
       0,
       1e-4,
       4},
  };
}

// Layers of Caffe's forks, and what forks add to Caffe's.
inline std::vector<ContractRow> ForkRows() {
  const std::vector<ContractBottom> image = {{{2, 32, 5, 4}}}, vector = {{{3, 7}}}, small = {{{2, 4, 6, 5}}};
  const std::vector<ContractBottom> with_kinks = {{{3, 67}, Fill::kDistinct}};  // none of them in a kink
  ContractRow clamped{"Scale", "clamped", "scale_param { min_value: -0.5 max_value: 0.8 bias_term: true }",
                      image};
  ContractRow unit{"InnerProduct", "normalized", "inner_product_param { num_output: 5 normalize: true }",
                   small};
  ContractRow fixed{"Normalize", "fork_fixed", "normalize_param { fix_gradient: true }", image};
  ContractRow dropped{"Normalize", "fork_norm_dropped", "normalize_param { }", image, 2};
  for (ContractRow* row : {&clamped, &unit, &fixed, &dropped}) row->gradient = GradientIs::kOfTheFork;
  return {
      clamped,
      unit,
      fixed,
      dropped,
      {"Normalize", "fork", "", image},
      {"Normalize", "fork_norm", "normalize_param { bp_norm: true }", image, 2},
      {"Normalize", "fork_L1", "normalize_param { normalize_type: 'L1' bp_norm: true }", image, 2},
      {"Normalize", "fork_vector", "normalize_param { bp_norm: true }", vector, 2},
      {"L2Norm", "", "", image},
      {"L2Norm", "vector", "", vector},
      {"NormL2", "", "", image},
      {"ReLU6", "", "", image},
      {"ReLU6", "both_ends", "", with_kinks},
      {"HardSwish", "", "", image},
      {"HardSwish", "both_ends", "", with_kinks},
      {"InnerProduct", "two_bottoms", "inner_product_param { num_output: 5 }", {{{3, 7}}, {{5, 7}}}},
      {"InnerProduct",
       "two_bottoms_transposed",
       "inner_product_param { transpose: true bias_term: false }",
       {{{3, 2, 4}}, {{8, 5}}}},
      {"DepthwiseConvolution", "", "convolution_param { num_output: 32 kernel_size: 3 pad: 1 group: 32 }",
       image},
      {"DepthwiseConvolution", "two_each", "convolution_param { num_output: 8 kernel_size: 2 stride: 2 }",
       small},
      {"ConvolutionDepthwise", "", "convolution_param { num_output: 32 kernel_size: 3 pad: 1 stride: 2 }",
       image},
      {"Pooling",
       "max_ceil_mode",
       "pooling_param { kernel_size: 2 stride: 3 ceil_mode: false }",
       {{{2, 32, 6, 5}, Fill::kDistinct}}},
      {"Flip", "", "", image},
      {"Flip", "both", "flip_param { flip_height: true }", small},
      {"ChannelScale", "", "", {{{3, 4}}, {{3, 1}}}},
      {"ChannelScale", "positions", "", {{{2, 4, 3, 2}}, {{2, 1, 3, 2}}}},
      {"Axpy", "", "", {{{2, 32, 1, 1}}, {{2, 32, 3, 2}}, {{2, 32, 3, 2}}}},
      {"Axpy", "vector", "", {{{2, 3}}, {{2, 3, 4}}, {{2, 3, 4}}}},
      {"ShuffleChannel", "", "shuffle_channel_param { group: 4 }", image},
      {"ShuffleChannel", "vector", "shuffle_channel_param { group: 3 }", {{{2, 6}}}},
      {"Permute", "", "permute_param { order: 0 order: 2 order: 3 order: 1 }", image},
      {"Permute", "some", "permute_param { order: 2 }", {{{2, 3, 4}}}},
      {"Squeeze", "", "", {{{2, 1, 3, 1}}}},
      {"Squeeze", "named", "squeeze_param { axis: -1 }", {{{2, 1, 3, 1}}}},
      {"Upsample", "", "upsample_param { scale: 2 }", image},
      {"Upsample", "threefold", "upsample_param { scale: 3 }", small},
      {"Interp", "zoom", "interp_param { zoom_factor: 2 }", image},
      {"Interp", "shrink", "interp_param { shrink_factor: 2 pad_beg: -1 }", image},
      {"Interp", "size", "interp_param { height: 9 width: 1 pad_end: -2 }", image},
      {"Interp", "as_bottom", "", {{{2, 4, 3, 4}}, {{2, 1, 7, 2}}}},
  };
}

inline std::vector<ContractRow> MarginRows() {
  const ContractBottom x{{5, 6}}, label{{5}, Fill::kLabel, 4};
  const ContractBottom cosines{{4, 6}, Fill::kCosine}, cosine_label{{4}, Fill::kLabel, 6};
  std::vector<ContractRow> rows = {
      {"LabelSpecificAdd", "", "label_specific_add_param { bias: -0.35 }", {cosines, cosine_label}},
      {"LabelSpecificAdd",
       "annealed",
       "label_specific_add_param { bias_base: -0.1 bias_gamma: -5e-05 iteration: 2000 bias_min: -0.4 }",
       {cosines, cosine_label},
       2},
      {"LabelSpecificAdd",
       "test",
       "label_specific_add_param { bias: -0.35 }",
       {cosines, cosine_label},
       2,
       TEST},
      {"CosinAddm", "", "", {cosines, cosine_label}},
      {"CosinAddm", "past_pi", "cosin_add_m_param { m: 1.4 }", {cosines, cosine_label}},
      {"CosinAddm", "test", "", {cosines, cosine_label}, 1, TEST},
      {"CombinedMargin", "", "combined_margin_param { m1: 1.2 m2: 0.3 m3: 0.2 }", {cosines, cosine_label}},
      {"CombinedMargin", "test", "", {cosines, cosine_label}, 1, TEST},
      {"CenterLoss", "", "center_loss_param { num_output: 4 }", {x, label}},
      {"CenterLoss", "image", "center_loss_param { num_output: 4 }", {{{5, 3, 2, 2}}, label}},
  };
  for (ContractRow& row : rows) {
    if (row.type == "CenterLoss") row.gradient = GradientIs::kOfTheFork;
  }
  for (const char* type : {"SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"}) {
    const std::string fields = Concat("{ num_output: 4 base: 3 gamma: 0.1 lambda_min: 1 type: ", type, " }");
    rows.push_back({"MarginInnerProduct", type, "margin_inner_product_param " + fields, {x, label}, 2});
    rows.back().gradient = GradientIs::kOfTheFork;
    rows.push_back(
        {"LargeMarginInnerProduct", type, "largemargin_inner_product_param " + fields, {x, label}, 2});
  }
  return rows;
}

inline std::vector<ContractRow> ContractRows() {
  std::vector<ContractRow> all;
  for (const auto& rows :
       {ActivationRows(), WeightRows(), ShapeRows(), LossRows(), ForkRows(), MarginRows()}) {
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return all;
}

}  // namespace crema
