// What BVLC Caffe computes for trained nets of public repositories (shared/data/caffe/outputs): every output,
// with and without fusion.
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "crema/caffe_files.hpp"
#include "crema/io.hpp"
#include "crema/net.hpp"
#include "data_fixtures.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

std::vector<float> ReadFloats(const std::string& path) {
  const std::string bytes = ReadFile(path);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

class CaffeOutputs : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    folder_ = SharedData() + "/caffe/outputs/" + GetParam() + "/";
    if (!FileExists(folder_)) GTEST_SKIP() << "shared/data/caffe/outputs is absent";
    const auto status =
        google::protobuf::util::JsonStringToMessage(ReadFile(folder_ + "golden.json"), &golden_);
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  const google::protobuf::Map<std::string, Value>& Fields(const std::string& name) const {
    return golden_.fields().at(name).struct_value().fields();
  }

  void Compare(DType real, bool fuse, double tolerance) const {
    TestPlace place;
    place.context().real = real;
    NetParameter spec = ReadNet(folder_ + "deploy.prototxt");
    const NetParameter weights = ReadWeights(folder_ + "weights.caffemodel");
    spec.set_fuse(fuse);
    Net net(place, spec, {.keep_blobs = true});
    net.CopyWeights(weights, "weights.caffemodel");
    for (const auto& [name, shape] : Fields("inputs"))
      net.SetInput(name, ReadFloats(folder_ + "in_" + name + ".f32"));
    net.Forward(place);
    for (const auto& [name, output] : Fields("outputs")) {
      const std::string file = output.struct_value().fields().at("file").string_value();
      const std::vector<float> wanted = ReadFloats(folder_ + file), found = net.BlobValues(name);
      ASSERT_EQ(found.size(), wanted.size()) << name;
      double largest = 0, difference = 0;
      for (size_t i = 0; i < wanted.size(); ++i) {
        ASSERT_TRUE(std::isfinite(found[i])) << name << " element " << i;
        largest = std::max(largest, std::abs(static_cast<double>(wanted[i])));
        difference = std::max(difference, std::abs(static_cast<double>(found[i]) - wanted[i]));
      }
      EXPECT_LE(difference, tolerance * largest) << name;
    }
  }

  std::string folder_;
  Struct golden_;
};

TEST_P(CaffeOutputs, AreOurs) {
  Compare(DType::kF64, false, 1e-5);  // what is left are Caffe's own rounding errors
  Compare(DType::kF32, false, 1e-5);
  Compare(DType::kF32, true, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Nets, CaffeOutputs,
                         testing::Values("MTCNN_face_detection_alignment_det1",
                                         "MTCNN_face_detection_alignment_det2",
                                         "MTCNN_face_detection_alignment_det3", "NormFace_lenet_iter_20000",
                                         "ResNet_on_Cifar10_ResNet_20", "SimpNet_slimnet_300k_13L_iter_17000",
                                         "SimpNet_squeezenet_batchnorm",
                                         "Ultra_Light_Fast_Generic_Face_Detector_1MB_slim_320",
                                         "arcface_caffe_landmark", "caffe_tensorflow_lenet_iter_10000",
                                         "cascaded_mobilenet_v2_l1_net", "deep_landmark_1_F",
                                         "deep_landmark_2_LE1", "face_landmark_VanFace",
                                         "retinaface_mnet_deconv_0517", "waifu2x_caffe_scale2_0x_model_json"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace crema
