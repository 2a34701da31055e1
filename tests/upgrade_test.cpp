// Caffe's older spellings. What each becomes follows Caffe's upgrade of files (its order
// and its names of 2013, 2014 and today); half-precision numbers are the examples of IEEE 754's binary16.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "crema/caffe_files.hpp"
#include "crema/net.hpp"
#include "data_fixtures.hpp"
#include "solver/net_specs.hpp"
#include "solver/optimizer.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

NetParameter Parse(const std::string& text) {
  NetParameter net;
  ParseText(text, "test net", &net);
  return net;
}

NetParameter Upgraded(const std::string& text) {
  NetParameter net = Parse(text);
  UpgradeNet(&net, "test net");
  return net;
}

void ExpectSame(const NetParameter& found, const std::string& wanted) {
  EXPECT_EQ(ToText(found), ToText(Parse(wanted)));
}

// ------------------------------------------------------------------------------------------------- layers

constexpr char kNet2013[] = R"(
  name: 'old'
  layers {
    layer {
      name: 'data' type: 'data' source: 'train_leveldb' meanfile: 'mean.binaryproto' batchsize: 8 cropsize: 12
      mirror: true scale: 0.5 rand_skip: 3
    }
    top: 'data' top: 'label'
  }
  layers { layer { name: 'pad1' type: 'padding' pad: 2 } bottom: 'data' top: 'pad1' }
  layers {
    layer {
      name: 'conv1' type: 'conv' num_output: 6 kernelsize: 5 group: 3 stride: 2 biasterm: false
      weight_filler { type: 'gaussian' std: 0.01 } blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
    }
    bottom: 'pad1' top: 'conv1'
  }
  layers { layer { name: 'relu1' type: 'relu' } bottom: 'conv1' top: 'conv1' }
  layers { layer { name: 'pad2' type: 'padding' pad: 1 } bottom: 'conv1' top: 'pad2' }
  layers { layer { name: 'pool1' type: 'pool' pool: AVE kernelsize: 3 stride: 2 } bottom: 'pad2' top: 'pool1' }
  layers {
    layer { name: 'norm1' type: 'lrn' local_size: 3 alpha: 0.0001 beta: 0.5 k: 2 } bottom: 'pool1' top: 'norm1'
  }
  layers { layer { name: 'split' type: 'concat' concat_dim: 1 } bottom: 'norm1' bottom: 'pool1' top: 'both' }
  layers { layer { name: 'drop' type: 'dropout' dropout_ratio: 0.25 } bottom: 'both' top: 'both' }
  layers {
    layer { name: 'fc' type: 'innerproduct' num_output: 10 bias_filler { value: 1 } } bottom: 'both' top: 'fc'
  }
  layers { layer { name: 'loss' type: 'softmax_loss' } bottom: 'fc' bottom: 'label' })";

TEST(Upgrade, LayersOf2013WithTheirPaddings) {
  NetParameter net = Parse(kNet2013);
  const std::vector<std::string> done = UpgradeNet(&net, "test net");
  EXPECT_EQ(done.size(), 2u);
  ExpectSame(net, R"(
    name: 'old'
    layer {
      name: 'data' type: 'Data' top: 'data' top: 'label'
      transform_param { scale: 0.5 mirror: true crop_size: 12 mean_file: 'mean.binaryproto' }
      data_param { source: 'train_leveldb' batch_size: 8 rand_skip: 3 }
    }
    layer {
      name: 'conv1' type: 'Convolution' bottom: 'data' top: 'conv1'
      param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
      convolution_param {
        num_output: 6 bias_term: false pad: 2 kernel_size: 5 group: 3 stride: 2
        weight_filler { type: 'gaussian' std: 0.01 }
      }
    }
    layer { name: 'relu1' type: 'ReLU' bottom: 'conv1' top: 'conv1' }
    layer {
      name: 'pool1' type: 'Pooling' bottom: 'conv1' top: 'pool1'
      pooling_param { pool: AVE pad: 1 kernel_size: 3 stride: 2 }
    }
    layer {
      name: 'norm1' type: 'LRN' bottom: 'pool1' top: 'norm1'
      lrn_param { local_size: 3 alpha: 0.0001 beta: 0.5 k: 2 }
    }
    layer {
      name: 'split' type: 'Concat' bottom: 'norm1' bottom: 'pool1' top: 'both' concat_param { concat_dim: 1 }
    }
    layer { name: 'drop' type: 'Dropout' bottom: 'both' top: 'both' dropout_param { dropout_ratio: 0.25 } }
    layer {
      name: 'fc' type: 'InnerProduct' bottom: 'both' top: 'fc'
      inner_product_param { num_output: 10 bias_filler { value: 1 } }
    }
    layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'fc' bottom: 'label' })");
  EXPECT_TRUE(UpgradeNet(&net, "test net").empty());  // once more changes nothing
}

TEST(Upgrade, ImagesOf2013) {
  ExpectSame(Upgraded(R"(layers {
      layer { name: 'data' type: 'images' source: 'list.txt' batchsize: 4 new_height: 20 new_width: 30
              shuffle_images: true }
      top: 'data' top: 'label' })"),
             R"(layer {
      name: 'data' type: 'ImageData' top: 'data' top: 'label'
      image_data_param { source: 'list.txt' batch_size: 4 new_height: 20 new_width: 30 shuffle: true } })");
}

TEST(Upgrade, FieldsOf2013WithoutAPlaceAreTold) {
  NetParameter net = Parse("layers { layer { name: 'r' type: 'relu' num_output: 3 } bottom: 'x' top: 'y' }");
  const std::vector<std::string> done = UpgradeNet(&net, "old.prototxt");
  EXPECT_EQ(
      done[1],
      "old.prototxt: layer 'r' of type 'relu' has num_output, which means nothing there and is skipped");
}

TEST(Upgrade, RefusesPaddingsThatItCannotMerge) {
  EXPECT_NE(ErrorOf([] {
              Upgraded(R"(layers { layer { name: 'p' type: 'padding' pad: 1 } bottom: 'x' top: 'p' }
                          layers { layer { name: 'r' type: 'relu' } bottom: 'p' top: 'r' })");
            }).find("layer 'r' of type 'relu' with 1 bottoms reads the padding layer 'p'"),
            std::string::npos);
  EXPECT_NE(ErrorOf([] {
              Upgraded("layers { layer { name: 'x' type: 'convolve' } }");
            }).find("has the type 'convolve'"),
            std::string::npos);
}

TEST(Upgrade, LayersOf2014) {
  NetParameter net = Parse(R"(
    layers {
      name: 'data' type: IMAGE_DATA top: 'data' top: 'label' include { phase: TRAIN }
      image_data_param { source: 'list.txt' batch_size: 2 scale: 0.1 mirror: true crop_size: 8 mean_file: 'm' }
    }
    layers {
      name: 'conv' type: CONVOLUTION bottom: 'data' top: 'conv' blobs_lr: 1 blobs_lr: 2 weight_decay: 1
      param: 'w' param: 'b' blob_share_mode: PERMISSIVE convolution_param { num_output: 4 kernel_size: 3 }
    }
    layers { name: 'tanh' type: TANH bottom: 'conv' top: 'tanh' }
    layers { name: 'ip' type: INNER_PRODUCT bottom: 'tanh' top: 'ip' inner_product_param { num_output: 5 } }
    layers { name: 'loss' type: SOFTMAX_LOSS bottom: 'ip' bottom: 'label' top: 'loss' loss_weight: 0.5
             loss_param { ignore_label: 3 } exclude { stage: 'deploy' } })");
  const std::vector<std::string> done = UpgradeNet(&net, "test net");
  EXPECT_EQ(done.size(), 2u);
  ExpectSame(net, R"(
    layer {
      name: 'data' type: 'ImageData' top: 'data' top: 'label' include { phase: TRAIN }
      transform_param { scale: 0.1 mirror: true crop_size: 8 mean_file: 'm' }
      image_data_param { source: 'list.txt' batch_size: 2 }
    }
    layer {
      name: 'conv' type: 'Convolution' bottom: 'data' top: 'conv'
      param { name: 'w' share_mode: PERMISSIVE lr_mult: 1 decay_mult: 1 } param { name: 'b' lr_mult: 2 }
      convolution_param { num_output: 4 kernel_size: 3 }
    }
    layer { name: 'tanh' type: 'TanH' bottom: 'conv' top: 'tanh' }
    layer { name: 'ip' type: 'InnerProduct' bottom: 'tanh' top: 'ip' inner_product_param { num_output: 5 } }
    layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'ip' bottom: 'label' top: 'loss' loss_weight: 0.5
            loss_param { ignore_label: 3 } exclude { stage: 'deploy' } })");
}

// Every type of 2014 has the name that Caffe gives it today.
TEST(Upgrade, NamesOfTypes) {
  const std::map<std::string, std::string> names = {{"ABSVAL", "AbsVal"},
                                                    {"ACCURACY", "Accuracy"},
                                                    {"ARGMAX", "ArgMax"},
                                                    {"BNLL", "BNLL"},
                                                    {"CONCAT", "Concat"},
                                                    {"CONTRASTIVE_LOSS", "ContrastiveLoss"},
                                                    {"CONVOLUTION", "Convolution"},
                                                    {"DATA", "Data"},
                                                    {"DECONVOLUTION", "Deconvolution"},
                                                    {"DROPOUT", "Dropout"},
                                                    {"DUMMY_DATA", "DummyData"},
                                                    {"EUCLIDEAN_LOSS", "EuclideanLoss"},
                                                    {"ELTWISE", "Eltwise"},
                                                    {"EXP", "Exp"},
                                                    {"FLATTEN", "Flatten"},
                                                    {"HDF5_DATA", "HDF5Data"},
                                                    {"HDF5_OUTPUT", "HDF5Output"},
                                                    {"HINGE_LOSS", "HingeLoss"},
                                                    {"IM2COL", "Im2col"},
                                                    {"IMAGE_DATA", "ImageData"},
                                                    {"INFOGAIN_LOSS", "InfogainLoss"},
                                                    {"INNER_PRODUCT", "InnerProduct"},
                                                    {"LRN", "LRN"},
                                                    {"MEMORY_DATA", "MemoryData"},
                                                    {"MULTINOMIAL_LOGISTIC_LOSS", "MultinomialLogisticLoss"},
                                                    {"MVN", "MVN"},
                                                    {"POOLING", "Pooling"},
                                                    {"POWER", "Power"},
                                                    {"RELU", "ReLU"},
                                                    {"SIGMOID", "Sigmoid"},
                                                    {"SIGMOID_CROSS_ENTROPY_LOSS", "SigmoidCrossEntropyLoss"},
                                                    {"SILENCE", "Silence"},
                                                    {"SOFTMAX", "Softmax"},
                                                    {"SOFTMAX_LOSS", "SoftmaxWithLoss"},
                                                    {"SPLIT", "Split"},
                                                    {"SLICE", "Slice"},
                                                    {"TANH", "TanH"},
                                                    {"WINDOW_DATA", "WindowData"},
                                                    {"THRESHOLD", "Threshold"}};
  const auto* types = V1LayerParameter::LayerType_descriptor();
  EXPECT_EQ(names.size() + 1, static_cast<size_t>(types->value_count()));  // and NONE
  for (const auto& [old, wanted] : names)
    EXPECT_EQ(Upgraded("layers { name: 'a' type: " + old + " }").layer(0).type(), wanted);
  EXPECT_NE(ErrorOf([] { Upgraded("layers { name: 'a' }"); }), "");
}

TEST(Upgrade, RefusesBothSpellingsInOneFile) {
  EXPECT_EQ(ErrorOf([] { Upgraded("layer { name: 'a' type: 'ReLU' } layers { name: 'b' type: RELU }"); }),
            "test net has both `layer` and `layers`, the older spelling; one of them was expected");
  EXPECT_NE(ErrorOf([] {
              Upgraded("layers { layer { name: 'a' type: 'relu' } } layers { name: 'b' type: RELU }");
            }).find("layers 'b' is of 2014"),
            std::string::npos);
}

TEST(Upgrade, Inputs) {
  const std::string wanted = R"(
    layer { name: 'input' type: 'Input' top: 'a' top: 'b'
            input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } shape { dim: 5 dim: 6 dim: 7 dim: 8 } } }
    layer { name: 'r' type: 'ReLU' bottom: 'a' top: 'c' })";
  const std::string layer = " layer { name: 'r' type: 'ReLU' bottom: 'a' top: 'c' }";
  ExpectSame(Upgraded("input: 'a' input: 'b' input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 "
                      "input_dim: 5 input_dim: 6 input_dim: 7 input_dim: 8" +
                      layer),
             wanted);
  ExpectSame(Upgraded("input: 'a' input: 'b' input_shape { dim: 1 dim: 2 dim: 3 dim: 4 } "
                      "input_shape { dim: 5 dim: 6 dim: 7 dim: 8 }" +
                      layer),
             wanted);
  EXPECT_EQ(ErrorOf([&] { Upgraded("input: 'a' input: 'b' input_dim: 1 input_dim: 2" + layer); }),
            "test net has 2 of input, but 2 of input_dim; expected four for each");
  EXPECT_NE(ErrorOf([&] { Upgraded("input: 'a' input_dim: 1 input_shape { dim: 1 }" + layer); }), "");
  NetParameter weights = Parse("input: 'a'" + layer);
  UpgradeWeights(&weights, "weights");
  ExpectSame(weights, layer);
}

TEST(Upgrade, LayersWithoutAName) {
  ExpectSame(Upgraded("layer { type: 'ReLU' bottom: 'a' top: 'b' } layer { type: 'Silence' bottom: 'b' }"),
             "layer { name: 'b' type: 'ReLU' bottom: 'a' top: 'b' } layer { type: 'Silence' bottom: 'b' }");
}

TEST(Upgrade, BatchNormsStatisticsAreNotLearnt) {
  ExpectSame(
      Upgraded("layer { name: 'a' type: 'BatchNorm' param { lr_mult: 1 } param { name: 'v' } param {} }"
               "layer { name: 'b' type: 'BatchNorm' param { lr_mult: 1 } }"),
      "layer { name: 'a' type: 'BatchNorm' param { lr_mult: 0 decay_mult: 0 } "
      "param { name: 'v' lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 } }"
      "layer { name: 'b' type: 'BatchNorm' param { lr_mult: 1 } }");
}

// ------------------------------------------------------------------------------------------------ weights

constexpr char kOneLayer[] = R"(
  layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: 1 dim: 3 } } }
  layer { name: 'ip' type: 'InnerProduct' bottom: 'x' top: 'y' inner_product_param { num_output: 2 } })";

// The values of both weights of the net above after loading a file of these weights.
std::vector<std::vector<float>> Loaded(const NetParameter& weights) {
  const DataFolder folder;
  WriteBinary(folder / "w.caffemodel", weights);
  TestPlace place;
  Net net(place, Parse(kOneLayer), {});
  net.CopyWeights(ReadWeights(folder / "w.caffemodel", {.say = [](const std::string&) {}}), "w.caffemodel");
  std::vector<std::vector<float>> values;
  for (const auto& param : net.layer("ip")->params()) values.push_back(param->value.ToHost<float>());
  return values;
}

TEST(Weights, Of2014WithFourAxes) {
  const auto values = Loaded(Parse(R"(
    name: 'old' input: 'x'
    layers { name: 'data' type: DATA top: 'x' }
    layers { name: 'ip' type: INNER_PRODUCT bottom: 'x' top: 'y' blobs_lr: 1 blobs_lr: 2
             blobs { num: 1 channels: 1 height: 2 width: 3 data: 1 data: 2 data: 3 data: 4 data: 5 data: 6 }
             blobs { num: 1 channels: 1 height: 1 width: 2 data: 7 data: 8 }
             inner_product_param { num_output: 2 } })"));
  EXPECT_EQ(values, (std::vector<std::vector<float>>{{1, 2, 3, 4, 5, 6}, {7, 8}}));
}

TEST(Weights, Of2013) {
  const auto values = Loaded(Parse(R"(
    layers { layer { name: 'ip' type: 'innerproduct' num_output: 2
             blobs { num: 1 channels: 1 height: 2 width: 3 data: 1 data: 2 data: 3 data: 4 data: 5 data: 6 }
             blobs { num: 1 channels: 1 height: 1 width: 2 data: 7 data: 8 } }
             bottom: 'x' top: 'y' })"));
  EXPECT_EQ(values, (std::vector<std::vector<float>>{{1, 2, 3, 4, 5, 6}, {7, 8}}));
}

template <class T>
void SetRaw(const std::vector<T>& values, BlobProto::RawType type, const Shape& shape, BlobProto* blob) {
  for (int64_t size : shape) blob->mutable_shape()->add_dim(size);
  blob->set_raw_data_type(type);
  blob->set_raw_data(std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)));
}

TEST(Weights, InRawBytes) {
  NetParameter weights = Parse("layer { name: 'ip' type: 'InnerProduct' blobs {} blobs {} }");
  // binary16: 1, -2, 65504 (largest), 2^-24 (smallest), 2^-14 (smallest normal), 0.333251953125.
  SetRaw<uint16_t>({0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0x3555}, BlobProto::FLOAT16, {2, 3},
                   weights.mutable_layer(0)->mutable_blobs(0));
  SetRaw<double>({0.25, -7}, BlobProto::DOUBLE, {2}, weights.mutable_layer(0)->mutable_blobs(1));
  auto values = Loaded(weights);
  EXPECT_EQ(values[0], (std::vector<float>{1, -2, 65504, 0x1p-24f, 0x1p-14f, 0.333251953125f}));
  EXPECT_EQ(values[1], (std::vector<float>{0.25, -7}));
  weights.mutable_layer(0)->clear_blobs();
  SetRaw<float>({1, 2, 3, 4, 5, 6.5f}, BlobProto::FLOAT, {2, 3}, weights.mutable_layer(0)->add_blobs());
  SetRaw<uint16_t>({0x7c00, 0xfc00}, BlobProto::FLOAT16, {2}, weights.mutable_layer(0)->add_blobs());
  values = Loaded(weights);
  EXPECT_EQ(values[0], (std::vector<float>{1, 2, 3, 4, 5, 6.5f}));
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(values[1], (std::vector<float>{infinity, -infinity}));
}

TEST(Weights, ThatWereNotUpgradedAreRefused) {
  TestPlace place;
  Net net(place, Parse(kOneLayer), {});
  EXPECT_NE(
      ErrorOf([&] { net.CopyWeights(Parse("layers { name: 'ip' type: INNER_PRODUCT }"), "old.caffemodel"); }),
      "");
}

// ------------------------------------------------------------------------------------------------- solver

TEST(Solver, OlderType) {
  SolverParameter solver;
  ParseText(
      "solver_type: ADAGRAD net_param { layers { name: 'a' type: RELU } } test_net_param { input: 'x' "
      "input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 }",
      "test", &solver);
  EXPECT_EQ(UpgradeSolver(&solver, "test").size(), 3u);
  EXPECT_EQ(solver.type(), "AdaGrad");
  EXPECT_FALSE(solver.has_solver_type());
  EXPECT_EQ(solver.net_param().layer(0).type(), "ReLU");
  EXPECT_EQ(solver.test_net_param(0).layer(0).type(), "Input");
  ParseText("solver_type: ADAM type: 'SGD'", "test", &solver);
  EXPECT_NE(ErrorOf([&] { UpgradeSolver(&solver, "test"); }).find("gives both type"), std::string::npos);
}

TEST(Solver, NetsWithinItAreUpgradedWhoeverMadeIt) {
  SolverParameter solver;
  ParseText(
      "test_iter: 1 test_interval: 1 net_param { layers { name: 'a' type: RELU bottom: 'x' top: 'y' } }",
      "test", &solver);
  EXPECT_EQ(TrainNetSpec(solver).net.layer(0).type(), "ReLU");
  EXPECT_EQ(TestNetSpecs(solver)[0].net.layer(0).type(), "ReLU");
}

}  // namespace
}  // namespace crema
