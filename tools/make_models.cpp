// Writes the nets of models/: <folder>/<net>/train.prototxt and deploy.prototxt, in Caffe's words (BatchNorm
// + Scale), so that other readers of Caffe's format load the backbones too. tests/models_test.cpp checks that
// the files in the repository are what this program writes.
#include <cmath>
#include <iostream>

#include "crema.pb.h"
#include "crema/io.hpp"
#include "tool.hpp"

namespace crema {
namespace {

enum class Use { kTrain, kDeploy };

FillerParameter Gaussian(double std) {
  FillerParameter filler;
  filler.set_type("gaussian");
  filler.set_std(static_cast<float>(std));
  return filler;
}

// kaiming_normal_(mode="fan_out") of PyTorch.
FillerParameter Msra() {
  FillerParameter filler;
  filler.set_type("msra");
  filler.set_variance_norm(FillerParameter::FAN_OUT);
  return filler;
}

FillerParameter Xavier() {
  FillerParameter filler;
  filler.set_type("xavier");
  return filler;
}

// U(-1/sqrt(n), 1/sqrt(n)): PyTorch's default for a Linear layer of n inputs.
FillerParameter LinearDefault(int64_t inputs) {
  FillerParameter filler;
  filler.set_type("uniform");
  filler.set_max(static_cast<float>(1 / std::sqrt(static_cast<double>(inputs))));
  filler.set_min(-filler.max());
  return filler;
}

struct ConvolutionShape {
  int64_t outputs = 0;
  uint32_t kernel = 3, stride = 1, pad = 1, group = 1;
};

// Appends layers to a net. Each function takes the name of its bottom and returns that of its top.
class Builder {
 public:
  explicit Builder(const std::string& name) { net_.set_name(name); }
  NetParameter& net() { return net_; }

  LayerParameter& Add(const std::string& type, const std::string& name,
                      const std::vector<std::string>& bottom, const std::vector<std::string>& top) {
    LayerParameter& layer = *net_.add_layer();
    layer.set_name(name);
    layer.set_type(type);
    for (const std::string& blob : bottom) layer.add_bottom(blob);
    for (const std::string& blob : top) layer.add_top(blob);
    return layer;
  }

  // Without bias.
  std::string Convolve(const std::string& name, const std::string& bottom, const ConvolutionShape& shape,
                       const FillerParameter& filler) {
    ConvolutionParameter& param = *Add("Convolution", name, {bottom}, {name}).mutable_convolution_param();
    param.set_num_output(static_cast<uint32_t>(shape.outputs));
    param.set_bias_term(false);
    param.add_kernel_size(shape.kernel);
    if (shape.stride != 1) param.add_stride(shape.stride);
    if (shape.pad != 0) param.add_pad(shape.pad);
    if (shape.group != 1) param.set_group(shape.group);
    *param.mutable_weight_filler() = filler;
    return name;
  }

  // BatchNorm with PyTorch's constants, from `bottom` into `top` (in place where equal), then its gain and
  // offset.
  std::string BatchNorm(const std::string& name, const std::string& bottom, const std::string& top) {
    AddBatchNorm(name, bottom, top);
    ScaleParameter& scale = *Add("Scale", name + "_scale", {top}, {top}).mutable_scale_param();
    scale.set_bias_term(true);
    return top;
  }
  std::string BatchNorm(const std::string& name, const std::string& blob) {
    return BatchNorm(name, blob, blob);
  }

  // The same with its gain kept at 1; not by the layer Bias, which not all readers of Caffe's files have.
  std::string BatchNormOffset(const std::string& name, const std::string& blob) {
    BatchNorm(name, blob);
    ParamSpec& gain = *net_.mutable_layer(net_.layer_size() - 1)->add_param();
    gain.set_lr_mult(0), gain.set_decay_mult(0);
    return blob;
  }

  std::string PReLU(const std::string& name, const std::string& blob) {
    Add("PReLU", name, {blob}, {blob});
    return blob;
  }

  std::string Sum(const std::string& name, const std::string& a, const std::string& b) {
    Add("Eltwise", name, {a, b}, {name});
    return name;
  }

  std::string InnerProduct(const std::string& name, const std::string& bottom, const std::string& top,
                           uint32_t outputs, bool bias, const FillerParameter& filler) {
    InnerProductParameter& param = *Add("InnerProduct", name, {bottom}, {top}).mutable_inner_product_param();
    param.set_num_output(outputs);
    if (!bias) param.set_bias_term(false);
    *param.mutable_weight_filler() = filler;
    if (bias) *param.mutable_bias_filler() = filler;
    return top;
  }

 private:
  void AddBatchNorm(const std::string& name, const std::string& bottom, const std::string& top) {
    BatchNormParameter& param = *Add("BatchNorm", name, {bottom}, {top}).mutable_batch_norm_param();
    param.set_moving_average_fraction(0.9f);
    param.set_eps(1e-5f);
  }

  NetParameter net_;
};

// ------------------------------------------------------------------------------------------------ backbones
// Each goes from blob "data" (N x 3 x 112 x 112) to blob "embedding".

// Improved ResNet of ArcFace (Deng et al., arXiv 1801.07698), as insightface's arcface_torch builds it.
void IResNet(Builder& b, const std::vector<int>& blocks) {
  const FillerParameter filler = Gaussian(0.1);
  std::string x = b.PReLU("prelu0", b.BatchNorm("bn0", b.Convolve("conv0", "data", {.outputs = 64}, filler)));
  int64_t channels = 64;
  for (size_t stage = 0; stage < blocks.size(); ++stage) {
    const int64_t outputs = int64_t{64} << stage;
    for (int unit = 0; unit < blocks[stage]; ++unit) {
      const std::string name = Concat("stage", stage + 1, "_unit", unit + 1);
      const uint32_t stride = unit == 0 ? 2 : 1;
      std::string y = b.BatchNorm(name + "_bn1", x, name + "_bn1");
      y = b.BatchNorm(name + "_bn2", b.Convolve(name + "_conv1", y, {.outputs = outputs}, filler));
      y = b.PReLU(name + "_prelu", y);
      y = b.Convolve(name + "_conv2", y, {.outputs = outputs, .stride = stride}, filler);
      y = b.BatchNorm(name + "_bn3", y);
      std::string shortcut = x;
      if (stride != 1 || channels != outputs) {
        const ConvolutionShape shape{.outputs = outputs, .kernel = 1, .stride = stride, .pad = 0};
        shortcut = b.BatchNorm(name + "_sc_bn", b.Convolve(name + "_sc", x, shape, filler));
      }
      x = b.Sum(name, y, shortcut);
      channels = outputs;
    }
  }
  x = b.BatchNorm("bn1", x, "bn1");
  b.InnerProduct("fc", x, "embedding", 512, true, LinearDefault(512 * 7 * 7));
  b.BatchNormOffset("fc_bn", "embedding");
}

std::string ConvolveNormActivate(Builder& b, const std::string& name, const std::string& bottom,
                                 const ConvolutionShape& shape) {
  return b.PReLU(name + "_prelu", b.BatchNorm(name + "_bn", b.Convolve(name, bottom, shape, Msra())));
}

// Inverted bottleneck of MobileFaceNet: 1x1 to `inner` channels, 3x3 by channel, 1x1 to `outputs` without
// activation.
std::string Bottleneck(Builder& b, const std::string& name, const std::string& x, uint32_t inner,
                       uint32_t outputs, uint32_t stride) {
  std::string y = ConvolveNormActivate(b, name + "_expand", x, {.outputs = inner, .kernel = 1, .pad = 0});
  y = ConvolveNormActivate(b, name + "_depthwise", y, {.outputs = inner, .stride = stride, .group = inner});
  y = b.Convolve(name + "_project", y, {.outputs = outputs, .kernel = 1, .pad = 0}, Msra());
  return b.BatchNorm(name + "_project_bn", y);
}

// Like Bottleneck at stride 1, with a shortcut.
std::string ResidualBottlenecks(Builder& b, const std::string& name, std::string x, uint32_t inner,
                                uint32_t channels, int count) {
  for (int unit = 1; unit <= count; ++unit) {
    const std::string unit_name = Concat(name, "_", unit);
    x = b.Sum(unit_name, x, Bottleneck(b, unit_name, x, inner, channels, 1));
  }
  return x;
}

// Global depthwise convolution over what is left of the image, then a linear embedding.
void GlobalDepthwiseEmbedding(Builder& b, const std::string& x, uint32_t channels, uint32_t outputs) {
  const ConvolutionShape whole{.outputs = channels, .kernel = 7, .pad = 0, .group = channels};
  const std::string y = b.BatchNorm("gdc_bn", b.Convolve("gdc", x, whole, Msra()));
  b.InnerProduct("fc", y, "embedding", outputs, false, Msra());
  b.BatchNorm("fc_bn", "embedding");
}

// MobileFaceNet (Chen et al., arXiv 1804.07573) in the form of insightface's arcface_torch: all widths
// doubled, blocks 1, 4, 6, 2, the second convolution in 64 groups.
void MobileFaceNet(Builder& b) {
  std::string x = ConvolveNormActivate(b, "conv1", "data", {.outputs = 128, .stride = 2});
  x = ConvolveNormActivate(b, "conv2", x, {.outputs = 128, .group = 64});
  x = Bottleneck(b, "down1", x, 128, 128, 2);
  x = ResidualBottlenecks(b, "stage1", x, 128, 128, 4);
  x = Bottleneck(b, "down2", x, 256, 256, 2);
  x = ResidualBottlenecks(b, "stage2", x, 256, 256, 6);
  x = Bottleneck(b, "down3", x, 512, 256, 2);
  x = ResidualBottlenecks(b, "stage3", x, 256, 256, 2);
  x = ConvolveNormActivate(b, "conv3", x, {.outputs = 512, .kernel = 1, .pad = 0});
  GlobalDepthwiseEmbedding(b, x, 512, 512);
}

// A slim MobileFaceNet for the quickstart.
void Quickstart(Builder& b) {
  std::string x = ConvolveNormActivate(b, "conv1", "data", {.outputs = 32, .stride = 2});
  x = Bottleneck(b, "down1", x, 32, 32, 2);
  x = ResidualBottlenecks(b, "stage1", x, 64, 32, 1);
  x = Bottleneck(b, "down2", x, 64, 64, 2);
  x = ResidualBottlenecks(b, "stage2", x, 128, 64, 2);
  x = Bottleneck(b, "down3", x, 128, 128, 2);
  x = ResidualBottlenecks(b, "stage3", x, 128, 128, 1);
  x = ConvolveNormActivate(b, "conv2", x, {.outputs = 256, .kernel = 1, .pad = 0});
  GlobalDepthwiseEmbedding(b, x, 256, 128);
}

// Convolution with a bias and PReLU, as in SphereFace: the first of each stage learns its bias, the others
// keep 0.
std::string SphereFaceConvolution(Builder& b, const std::string& suffix, const std::string& x,
                                  uint32_t outputs, uint32_t stride) {
  const std::string name = "conv" + suffix;
  LayerParameter& layer = b.Add("Convolution", name, {x}, {name});
  layer.add_param();
  ParamSpec& bias = *layer.add_param();
  bias.set_lr_mult(stride == 2 ? 2 : 0);
  bias.set_decay_mult(0);
  ConvolutionParameter& param = *layer.mutable_convolution_param();
  param.set_num_output(outputs);
  param.add_kernel_size(3);
  if (stride != 1) param.add_stride(stride);
  param.add_pad(1);
  *param.mutable_weight_filler() = stride == 2 ? Xavier() : Gaussian(0.01);
  return b.PReLU("relu" + suffix, name);
}

// The 20-layer net of SphereFace (Liu et al., arXiv 1704.08063), with the layer names of its authors.
void SphereFace20(Builder& b) {
  const std::vector<int> blocks = {1, 2, 4, 1};
  std::string x = "data";
  for (int stage = 1; stage <= 4; ++stage) {
    const uint32_t outputs = 32u << stage;
    const std::string prefix = std::to_string(stage) + "_";
    x = SphereFaceConvolution(b, prefix + "1", x, outputs, 2);
    for (int block = 1; block <= blocks[static_cast<size_t>(stage - 1)]; ++block) {
      const std::string first = prefix + std::to_string(2 * block),
                        second = prefix + std::to_string(2 * block + 1);
      std::string y = SphereFaceConvolution(b, first, x, outputs, 1);
      y = SphereFaceConvolution(b, second, y, outputs, 1);
      x = b.Sum("res" + second, x, y);
    }
  }
  LayerParameter& fc = b.Add("InnerProduct", "fc5", {x}, {"embedding"});
  fc.add_param();
  ParamSpec& bias = *fc.add_param();
  bias.set_lr_mult(2);
  bias.set_decay_mult(0);
  fc.mutable_inner_product_param()->set_num_output(512);
  *fc.mutable_inner_product_param()->mutable_weight_filler() = Xavier();
}

// ------------------------------------------------------------------------------------------ data and head

struct Model {
  std::string folder, name, about;
  void (*backbone)(Builder&);
  std::string source;  // LMDB of the training images
  uint32_t batch = 128;
  bool rgb = true;
  float scale = 1 / 127.5f;  // of (pixel - 127.5)
  int64_t identities = 0;
  float sample_rate = 1;
  MarginSoftmaxParameter margin;
  std::string test_source{};  // LMDB of image pairs, if the net is tested while it is trained
  uint32_t test_batch = 0;
};

void SetPhase(LayerParameter& layer, Phase phase) {
  layer.add_include()->set_phase(phase);
}

void AddData(Builder& b, const Model& model, Phase phase) {
  const bool train = phase == TRAIN;
  LayerParameter& layer = b.Add("Data", train ? "data" : "pairs", {}, {"data", "label"});
  SetPhase(layer, phase);
  TransformationParameter& transform = *layer.mutable_transform_param();
  transform.set_scale(model.scale);
  if (train) transform.set_mirror(true);
  transform.add_mean_value(127.5f);
  if (model.rgb) transform.set_rgb(true);
  DataParameter& data = *layer.mutable_data_param();
  data.set_source(train ? model.source : model.test_source);
  data.set_batch_size(train ? model.batch : model.test_batch);
  data.set_backend(DataParameter::LMDB);
  if (train) data.set_shuffle(true);
}

void AddHead(Builder& b, const Model& model) {
  LayerParameter& centers =
      b.Add("DistPartialFC", "centers", {"embedding", "label"}, {"logits", "sampled_label"});
  centers.mutable_dist_partial_fc_param()->set_num_output(model.identities);
  centers.mutable_dist_partial_fc_param()->set_sample_rate(model.sample_rate);
  LayerParameter& loss = b.Add("MarginSoftmax", "loss", {"logits", "sampled_label"}, {"loss"});
  *loss.mutable_margin_softmax_param() = model.margin;
  if (model.test_source.empty()) return;
  SetPhase(centers, TRAIN);
  SetPhase(loss, TRAIN);
  SetPhase(b.Add("VerificationAccuracy", "accuracy", {"embedding", "label"}, {"accuracy", "tar"}), TEST);
}

NetParameter BuildNet(const Model& model, Use use) {
  Builder b(model.name);
  if (use == Use::kDeploy) {
    BlobShape& shape = *b.Add("Input", "data", {}, {"data"}).mutable_input_param()->add_shape();
    for (int64_t size : {1, 3, 112, 112}) shape.add_dim(size);
  } else {
    AddData(b, model, TRAIN);
    if (!model.test_source.empty()) AddData(b, model, TEST);
  }
  model.backbone(b);
  if (use == Use::kTrain) AddHead(b, model);
  return b.net();
}

MarginSoftmaxParameter ArcFace() {
  MarginSoftmaxParameter margin;
  margin.set_m2(0.5f);
  return margin;
}

std::vector<Model> AllModels() {
  const std::string ms1mv3 = "data/ms1mv3/train_lmdb";
  std::vector<Model> models;
  const auto add_iresnet = [&](const char* folder, const char* name, void (*backbone)(Builder&)) {
    models.push_back({.folder = folder,
                      .name = name,
                      .about = "iResNet of ArcFace (Deng et al., arXiv 1801.07698).",
                      .backbone = backbone,
                      .source = ms1mv3,
                      .identities = 93431,
                      .margin = ArcFace()});
  };
  add_iresnet("iresnet18", "iResNet-18", [](Builder& b) { IResNet(b, {2, 2, 2, 2}); });
  add_iresnet("iresnet50", "iResNet-50", [](Builder& b) { IResNet(b, {3, 4, 14, 3}); });
  add_iresnet("iresnet100", "iResNet-100", [](Builder& b) { IResNet(b, {3, 13, 30, 3}); });
  models.push_back(
      {.folder = "mobilefacenet",
       .name = "MobileFaceNet",
       .about = "MobileFaceNet (Chen et al., arXiv 1804.07573), insightface's form: widths doubled.",
       .backbone = MobileFaceNet,
       .source = ms1mv3,
       .identities = 93431,
       .margin = ArcFace()});
  MarginSoftmaxParameter angular;
  angular.set_m1(1.35f);
  models.push_back(
      {.folder = "sphereface20",
       .name = "SphereFace-20",
       .about = "The 20-layer net of SphereFace (Liu et al., arXiv 1704.08063), for 112x112 images.",
       .backbone = SphereFace20,
       .source = "data/casia/train_lmdb",
       .batch = 256,
       .rgb = false,
       .scale = 1 / 128.0f,
       .identities = 10572,
       .margin = angular});
  MarginSoftmaxParameter cosine;
  cosine.set_scale(32);
  cosine.set_m3(0.2f);
  models.push_back({.folder = "quickstart",
                    .name = "Quickstart",
                    .about = "A slim MobileFaceNet that learns in minutes on two cores.",
                    .backbone = Quickstart,
                    .source = "train_lmdb",
                    .batch = 64,
                    .identities = 1000,
                    .sample_rate = 0.1f,
                    .margin = cosine,
                    .test_source = "pairs_lmdb",
                    .test_batch = 100});
  return models;
}

void WriteNet(const Model& model, Use use, const std::string& folder) {
  const std::string header =
      Concat("# ", model.about, "\n# Written by tools/make_models.cpp; change it there.\n");
  WriteFile(folder + (use == Use::kTrain ? "/train.prototxt" : "/deploy.prototxt"),
            header + ToText(BuildNet(model, use)));
}

}  // namespace
}  // namespace crema

int main(int argc, char** argv) {
  using namespace crema;
  return RunTool("make_models", nullptr, [&] {
    Require(argc == 2, "make_models takes one argument, the folder to write to, and was given ", argc - 1,
            ".");
    for (const Model& model : AllModels()) {
      const std::string folder = Concat(argv[1], "/", model.folder);
      MakeDirectories(folder);
      WriteNet(model, Use::kTrain, folder);
      WriteNet(model, Use::kDeploy, folder);
    }
    return 0;
  });
}
