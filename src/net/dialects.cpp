#include "net/dialects.hpp"

#include <cstring>

namespace crema {
namespace {

// Types of the forks and of BVLC that are not here.
struct TypeAdvice {
  const char *type, *advice;
};
constexpr char kSsd[] = "it is of SSD's detectors, which are not here";
constexpr char kRcnn[] = "it is of the R-CNN detectors, which are not here";
constexpr char kRecurrent[] = "recurrent layers are not here";
constexpr char kNorm[] = "Normalize brings vectors to unit length";
constexpr char kPartialFc[] =
    "to_partial_fc puts DistPartialFC with MarginSoftmax in the place of such a head (docs/caffe.md)";
constexpr char kFocal[] =
    "it weighs samples by how hard they are; SoftmaxWithLoss is the loss without weights, and to_partial_fc "
    "replaces a whole head (docs/caffe.md)";
constexpr char kBatchNorm[] =
    "it normalises, scales and shifts in one; write BatchNorm and behind it Scale with bias_term: true";
constexpr TypeAdvice kTypes[] = {
    {"AdaCosAddmScale", kPartialFc},
    {"AnnotatedData", kSsd},
    {"BN", kBatchNorm},
    {"CPMData", "it makes maps of body joints; ImageData and HDF5Data read images and numbers"},
    {"CuDNNBatchNorm", kBatchNorm},
    {"DenseImageData", "it reads images with label maps; HDF5Data reads any numbers"},
    {"DetectionEvaluate", kSsd},
    {"DetectionOutput", kSsd},
    {"FocalLoss", kFocal},
    {"FrcnnProposal", kRcnn},
    {"GeneralContrastiveLoss", "ContrastiveLoss is the plain form, on pairs"},
    {"GeneralTripletLoss",
     "triplets are not here; DistPartialFC with MarginSoftmax learns from labels alone"},
    {"GlobalLSEMargin", kPartialFc},
    {"ImageSegData", "it reads images with label maps; HDF5Data reads any numbers"},
    {"InnerDistance",
     "it gives distances to class centres; InnerProduct with normalize: true behind Normalize gives their "
     "cosines"},
    {"Insanity", "it is a leaky ReLU of random slope; ReLU with negative_slope and PReLU are near to it"},
    {"L2Normalization", kNorm},
    {"L2Normalize", kNorm},
    {"LSTM", kRecurrent},
    {"LSTMUnit", kRecurrent},
    {"LabelSpecificMargin", kPartialFc},
    {"Local", "it is a convolution whose weights differ from place to place, which is not here"},
    {"MultiBoxLoss", kSsd},
    {"PSROIPooling", kRcnn},
    {"PriorBox", kSsd},
    {"Proposal", kRcnn},
    {"Python",
     "it runs a class written in Python, which cannot be run here; docs/add_a_layer.md tells how to write it "
     "as "
     "a layer"},
    {"RNN", kRecurrent},
    {"ROIAlign", kRcnn},
    {"ROIPooling", kRcnn},
    {"ReLU6", "write ReLU and behind it Clip with min: 0 max: 6"},
    {"Recurrent", kRecurrent},
    {"Reorg", "it is of YOLO's detectors, which are not here"},
    {"SmoothL1Loss", kRcnn},
    {"SmoothL1LossOHEM", kRcnn},
    {"SoftmaxWithFocalLoss", kFocal},
    {"SpatialBatchNorm", kBatchNorm},
    {"SyncBN", kBatchNorm},
    {"TripletLoss", "triplets are not here; DistPartialFC with MarginSoftmax learns from labels alone"},
    {"VideoData", "it reads frames of a video; ImageData reads images"},
    {"WindowData", "it cuts R-CNN's windows out of images; cut them beforehand, for ImageData or Data"},
};

// Fields of the forks. "*" stands for any message.
struct FieldAdvice {
  const char *message, *field, *advice;
};
constexpr char kLeaveOut[] = "leave it out, it does not change the result";
constexpr char kFloat32[] = "leave it out; the arithmetic here is in float32";
constexpr char kSidedPad[] = "padding here is the same on both sides: pad_h and pad_w";
constexpr char kScaleBehind[] =
    "write a Scale layer with bias_term: true behind the BatchNorm, its fillers in scale_param";
constexpr char kResize[] =
    "resize the images when the database is made (convert_imageset --resize_width --resize_height), or by "
    "ImageData's new_height and new_width";
constexpr char kWarmup[] = "warmup_iter and warmup_start_lr let the rate rise at the beginning";
constexpr char kPolicies[] = "the policies that lr_policy can name are in docs/train.md";
constexpr char kV1Rates[] = "in a `layer` it is param { lr_mult: ... decay_mult: ... }, one for each weight";
constexpr char kIsSolver[] = "this looks like a solver's prototxt where a net's was expected";
constexpr char kIsNet[] = "this looks like a net's prototxt where a solver's was expected";
constexpr FieldAdvice kFields[] = {
    {"NetParameter", "net", kIsSolver},
    {"NetParameter", "train_net", kIsSolver},
    {"NetParameter", "base_lr", kIsSolver},
    {"NetParameter", "test_iter", kIsSolver},
    {"SolverParameter", "name", kIsNet},
    {"SolverParameter", "input", kIsNet},
    {"SolverParameter", "layer", kIsNet},
    {"SolverParameter", "layers", kIsNet},
    {"NetParameter", "print_net_info", kLeaveOut},
    {"NetParameter", "profile_info", "leave it out; train --profile logs the time of each layer"},
    {"NetParameter", "profile_iter", "leave it out; train --profile logs the time of each layer"},
    {"NetParameter", "profile_warmup", "leave it out; train --profile logs the time of each layer"},
    {"NetParameter", "multinode", "leave it out; ranks are given when training starts (docs/ranks.md)"},
    {"NetParameter", "global_grad_scale", kFloat32},
    {"NetParameter", "global_grad_scale_adaptive", kFloat32},
    {"NetParameter", "reduce_buckets", kLeaveOut},
    {"NetParameter", "optimize_mem", "leave it out; memory is always shared where it can be"},
    {"NetParameter", "mem_param", "leave it out; memory is always shared where it can be"},
    {"NetParameter", "engine", kLeaveOut},
    {"*", "default_forward_type", kFloat32},
    {"*", "default_backward_type", kFloat32},
    {"*", "default_forward_math", kFloat32},
    {"*", "default_backward_math", kFloat32},
    {"*", "solver_data_type", kFloat32},
    {"*", "store_blobs_in_old_format", "leave it out; weights are saved with their shape"},
    {"LayerParameter", "forward_type", kFloat32},
    {"LayerParameter", "backward_type", kFloat32},
    {"LayerParameter", "forward_math", kFloat32},
    {"LayerParameter", "backward_math", kFloat32},
    {"LayerParameter", "multinode", "leave it out; ranks are given when training starts (docs/ranks.md)"},
    {"LayerParameter", "engine", kLeaveOut},
    {"LayerParameter", "blobs_lr", kV1Rates},
    {"LayerParameter", "weight_decay", kV1Rates},
    {"LayerParameter", "layer",
     "a `layer` within `layers` is of 2013, a `layer` alone of 2014 and later; a file has one of the two"},
    {"V1LayerParameter", "lr_mult", "in `layers` it is blobs_lr, one for each weight"},
    {"*", "engine", kLeaveOut},
    {"*", "pad_l", kSidedPad},
    {"*", "pad_r", kSidedPad},
    {"*", "pad_t", kSidedPad},
    {"*", "pad_b", kSidedPad},
    {"*", "pad_type", "padding here is the same on both sides: pad_h and pad_w"},
    {"ConvolutionParameter", "relu", "write a ReLU layer behind the convolution"},
    {"ConvolutionParameter", "cudnn_math_override", kLeaveOut},
    {"ConvolutionParameter", "conv_algos_override", kLeaveOut},
    {"PoolingParameter", "avg_include_pad",
     "the average here is over the window clipped to the padded image, as in Caffe"},
    {"BatchNormParameter", "scale_bias", kScaleBehind},
    {"BatchNormParameter", "use_scale_bias", kScaleBehind},
    {"BatchNormParameter", "scale_filler", kScaleBehind},
    {"BatchNormParameter", "bias_filler", kScaleBehind},
    {"BatchNormParameter", "slope_filler", kScaleBehind},
    {"BatchNormParameter", "shift_filler", kScaleBehind},
    {"BatchNormParameter", "var_eps", "it is eps"},
    {"BatchNormParameter", "relu", "write a ReLU layer behind it"},
    {"BatchNormParameter", "momentum", "it is moving_average_fraction, the weight of the old statistics"},
    {"TransformationParameter", "resize_param", kResize},
    {"TransformationParameter", "resize", kResize},
    {"TransformationParameter", "img_rand_resize_lower", kResize},
    {"TransformationParameter", "img_rand_resize_upper", kResize},
    {"TransformationParameter", "distort_param", "color_jitter changes brightness, contrast and saturation"},
    {"TransformationParameter", "random_aspect_ratio_param",
     "leave it out; docs/layers.md lists the augmentations of Data"},
    {"TransformationParameter", "expand_param", "it is of SSD's detectors, which are not here"},
    {"TransformationParameter", "noise_param",
     "random_erase, color_jitter, grayscale and low_resolution are there instead"},
    {"TransformationParameter", "emit_constraint", "it is of SSD's detectors, which are not here"},
    {"TransformationParameter", "erase_ratio",
     "it is random_erase, the probability that an image is erased in part"},
    {"TransformationParameter", "use_gpu_transform", kLeaveOut},
    {"TransformationParameter", "random_seed",
     "leave it out; the solver's random_seed keys all that is random"},
    {"TransformationParameter", "crop_h", "crops here are square: crop_size"},
    {"TransformationParameter", "crop_w", "crops here are square: crop_size"},
    {"DataParameter", "cache", kLeaveOut},
    {"DataParameter", "parser_threads", "leave it out, or say threads"},
    {"ImageDataParameter", "shuffle_images", "it is shuffle"},
    {"ImageDataParameter", "balance_class", "leave it out; images are drawn alike whatever their class"},
    {"ImageDataParameter", "balance_by", "leave it out; images are drawn alike whatever their class"},
    {"AccuracyParameter", "min_is_better", "leave it out; the largest score is the best"},
    {"LossParameter", "hard_ratio", "leave it out; all samples of the batch count"},
    {"SoftmaxParameter", "normalize_type", "leave it out; the probabilities are those of the softmax"},
    {"SoftmaxParameter", "hard_ratio", "leave it out; all samples of the batch count"},
    {"SoftmaxParameter", "cutting_point", "leave it out; all samples of the batch count"},
    {"SoftmaxParameter", "label_smooth_factor", "leave it out; labels are not smoothed"},
    {"SolverParameter", "eval_type", "leave it out; Accuracy and VerificationAccuracy layers measure a net"},
    {"SolverParameter", "stagelr", kPolicies},
    {"SolverParameter", "stageiter", kPolicies},
    {"SolverParameter", "stepearly", kPolicies},
    {"SolverParameter", "min_lr", kPolicies},
    {"SolverParameter", "plateau_winsize", kPolicies},
    {"SolverParameter", "rampup_interval", kWarmup},
    {"SolverParameter", "rampup_lr", kWarmup},
    {"SolverParameter", "warmup_type", kWarmup},
    {"SolverParameter", "momentum_policy", "leave it out; momentum stays as it is"},
    {"SolverParameter", "max_momentum", "leave it out; momentum stays as it is"},
    {"SolverParameter", "larc", "leave it out; rates by layer are given by lr_mult"},
    {"SolverParameter", "larc_policy", "leave it out; rates by layer are given by lr_mult"},
    {"SolverParameter", "larc_eta", "leave it out; rates by layer are given by lr_mult"},
    {"SolverParameter", "local_lr_auto", "leave it out; rates by layer are given by lr_mult"},
    {"SolverParameter", "local_gw_ratio", "leave it out; rates by layer are given by lr_mult"},
    {"SolverParameter", "disp_loss_func", kLeaveOut},
    {"SolverParameter", "net_debug_info", "it is debug_info"},
};

// Parameter messages of layer types that are not here.
struct MessageOfType {
  const char *field, *type;
};
constexpr MessageOfType kMessages[] = {
    {"adacos_add_m_scale_param", "AdaCosAddmScale"},
    {"annotated_data_param", "AnnotatedData"},
    {"bn_param", "BN"},
    {"detection_evaluate_param", "DetectionEvaluate"},
    {"detection_output_param", "DetectionOutput"},
    {"focal_loss_param", "FocalLoss"},
    {"general_contrastive_loss_param", "GeneralContrastiveLoss"},
    {"general_triplet_loss_param", "GeneralTripletLoss"},
    {"inner_distance_param", "InnerDistance"},
    {"insanity_param", "Insanity"},
    {"l2n_param", "L2Normalization"},
    {"local_param", "Local"},
    {"lstm_param", "LSTM"},
    {"multibox_loss_param", "MultiBoxLoss"},
    {"prior_box_param", "PriorBox"},
    {"proposal_param", "Proposal"},
    {"psroi_pooling_param", "PSROIPooling"},
    {"python_param", "Python"},
    {"recurrent_param", "LSTM"},
    {"relu6_param", "ReLU6"},
    {"reorg_param", "Reorg"},
    {"roi_align_param", "ROIAlign"},
    {"roi_pooling_param", "ROIPooling"},
    {"smooth_l1_loss_param", "SmoothL1Loss"},
    {"triplet_loss_param", "TripletLoss"},
    {"video_data_param", "VideoData"},
    {"window_data_param", "WindowData"},
};

std::string AdviceOnValue(const UnknownWord& word) {
  if (word.value == "[")
    return "a list is given for a field of one number; GPUs to train on (device_id) are given as --gpu=0,1";
  if (word.field == "engine") return kLeaveOut;
  if (word.field == "pool")
    return "MAX, AVE and STOCHASTIC are there; AVE divides by the window clipped to the padded image";
  if (word.field == "solver_type") return "type names the other rules, such as type: \"AdamW\"";
  return "";
}

}  // namespace

std::string AdviceOnWord(const UnknownWord& word) {
  if (!word.value.empty()) return AdviceOnValue(word);
  for (const FieldAdvice& known : kFields) {
    if (word.field != known.field) continue;
    if (word.message == known.message || std::strcmp(known.message, "*") == 0) return known.advice;
  }
  for (const MessageOfType& known : kMessages) {
    if (word.field == known.field && word.message.ends_with("LayerParameter"))
      return Concat("it belongs to the type ", known.type, ": ", AdviceOnType(known.type));
  }
  return "";
}

std::string AdviceOnType(const std::string& type) {
  for (const TypeAdvice& known : kTypes)
    if (type == known.type) return known.advice;
  return "";
}

}  // namespace crema
