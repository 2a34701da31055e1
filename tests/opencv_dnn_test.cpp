// Another reader of Caffe's files, OpenCV's dnn, gives the same numbers as Crema: with nets and weights that
// Crema writes, and with those of others (shared/data/caffe, skipped where it is absent).
#include <gtest/gtest.h>

#include <filesystem>
#include <opencv2/dnn.hpp>

#include "crema/embedder.hpp"
#include "data_fixtures.hpp"
#include "solver_fixtures.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

namespace fs = std::filesystem;

std::vector<float> Noise(int64_t count, float low, float high) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(random);
  return values;
}

cv::Mat MatOf(const Shape& shape, std::vector<float>* values) {
  const std::vector<int> sizes(shape.begin(), shape.end());
  return cv::Mat(static_cast<int>(sizes.size()), sizes.data(), CV_32F, values->data()).clone();
}

void ExpectSame(const std::vector<float>& ours, const cv::Mat& theirs, const std::string& what) {
  ASSERT_EQ(ours.size(), theirs.total()) << what;
  const float* other = theirs.ptr<float>();
  double largest = 0, difference = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    ASSERT_TRUE(std::isfinite(ours[i])) << what;
    largest = std::max(largest, std::abs(static_cast<double>(other[i])));
    difference = std::max(difference, std::abs(static_cast<double>(ours[i]) - other[i]));
  }
  EXPECT_GT(largest, 0) << what;
  EXPECT_LE(difference, 1e-4 * largest) << what;
}

// Statistics as after some training, or BatchNorm would not change anything.
void FillStatistics(Net* net) {
  for (const auto& layer : net->layers()) {
    if (layer->type() != "BatchNorm") continue;
    for (size_t k = 0; k < 3; ++k) {
      Tensor& value = layer->params()[k]->value;
      value.FromHost(k == 0   ? Noise(value.count(), -0.3f, 0.3f)
                     : k == 1 ? Noise(value.count(), 0.5f, 1.5f)
                              : std::vector<float>{1});
    }
  }
}

class OursInOpenCv : public testing::TestWithParam<std::string> {};

TEST_P(OursInOpenCv, GivesTheSameNumbers) {
  TempFolder folder;
  NetParameter train;
  ReadText(CREMA_SOURCE_DIR "/models/" + GetParam() + "/train.prototxt", &train);
  const EmbeddingNet cut = CutAtEmbedding(train, "", GetParam());
  const int64_t width = GetParam() == "sphereface20" ? 96 : 112;
  const NetParameter deploy = DeployNet(cut, 112, width);
  TestPlace work;
  NetParameter filled = cut.net;  // with fillers
  *filled.mutable_layer(0) = deploy.layer(0);
  Net net(work, filled, {});
  FillStatistics(&net);
  WriteFile(folder / "deploy.prototxt", ToText(deploy));
  WriteBinary(folder / "weights.caffemodel", net.ToProto());

  Net again(work, deploy, {});
  NetParameter weights;
  ReadBinary(folder / "weights.caffemodel", &weights);
  again.CopyWeights(weights, "weights.caffemodel");
  std::vector<float> image = Noise(3 * 112 * width, -1, 1);
  again.SetInput(cut.input, image);
  again.Forward(work);
  cv::dnn::Net theirs = cv::dnn::readNetFromCaffe(folder / "deploy.prototxt", folder / "weights.caffemodel");
  theirs.setInput(MatOf({1, 3, 112, width}, &image));
  ExpectSame(again.BlobValues(cut.blob), theirs.forward(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Models, OursInOpenCv,
                         testing::Values("quickstart", "mobilefacenet", "sphereface20", "iresnet18"),
                         [](const auto& test) { return test.param; });

// Nets with weights by others: all of that folder but NormFace's, whose layer Parameter OpenCV's dnn has not.
class OthersInOpenCv : public testing::TestWithParam<std::string> {};

TEST_P(OthersInOpenCv, GivesTheSameNumbers) {
  const std::string folder = SharedData() + "/caffe/outputs/" + GetParam() + "/";
  if (!FileExists(folder)) GTEST_SKIP() << "shared/data/caffe/outputs is absent";
  TestPlace work;
  NetParameter spec, weights;
  ReadText(folder + "deploy.prototxt", &spec);
  ReadBinary(folder + "weights.caffemodel", &weights);
  Net net(work, spec, {.keep_blobs = true});
  net.CopyWeights(weights, "weights.caffemodel");
  const std::string input = net.layers()[0]->spec().top(0);
  const Shape shape = net.blob(input).shape();
  std::vector<float> image = Noise(net.blob(input).count(), -1, 1);
  net.SetInput(input, image);
  net.Forward(work);
  cv::dnn::Net theirs = cv::dnn::readNetFromCaffe(folder + "deploy.prototxt", folder + "weights.caffemodel");
  theirs.setInput(MatOf(shape, &image), input);
  for (const Net::Output& output : net.outputs()) {
    // OpenCV names outputs by their layers.
    std::string layer;
    for (const auto& candidate : net.layers())
      for (const std::string& top : candidate->spec().top())
        if (top == output.name) layer = candidate->name();
    ExpectSame(output.values, theirs.forward(layer), output.name);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Nets, OthersInOpenCv,
    testing::Values("MTCNN_face_detection_alignment_det1", "MTCNN_face_detection_alignment_det2",
                    "MTCNN_face_detection_alignment_det3", "ResNet_on_Cifar10_ResNet_20",
                    "SimpNet_slimnet_300k_13L_iter_17000", "SimpNet_squeezenet_batchnorm",
                    "Ultra_Light_Fast_Generic_Face_Detector_1MB_slim_320", "arcface_caffe_landmark",
                    "caffe_tensorflow_lenet_iter_10000", "cascaded_mobilenet_v2_l1_net", "deep_landmark_1_F",
                    "deep_landmark_2_LE1", "waifu2x_caffe_scale2_0x_model_json", "face_landmark_VanFace",
                    "retinaface_mnet_deconv_0517"),
    [](const auto& test) { return test.param; });

}  // namespace
}  // namespace crema
