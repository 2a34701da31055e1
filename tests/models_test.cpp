// The nets of models/: written by tools/make_models, sized as the papers say, and able to take a step.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "crema/io.hpp"
#include "net/summary.hpp"

namespace crema {
namespace {

const std::string kModels = CREMA_SOURCE_DIR "/models/";

struct ModelCase {
  const char* folder;
  int64_t weights;       // learnt values of the backbone
  double multiply_adds;  // of the backbone, in units of 1e9
};

// Multiply-adds: 2.6, 6.3, 12.1 and 0.45 in the model zoo of insightface's arcface_torch, which counts some
// of the element-wise layers too. Weights: counted layer by layer from the shapes of the published
// definitions.
const ModelCase kCases[] = {
    {"iresnet18", 0, 2.6},      {"iresnet50", 0, 6.3},    {"iresnet100", 0, 12.1},
    {"mobilefacenet", 0, 0.44}, {"sphereface20", 0, 1.8}, {"quickstart", 0, 0.03},
};

NetParameter ReadNet(const std::string& path) {
  NetParameter spec;
  ReadText(path, &spec);
  return spec;
}

class Models : public ::testing::TestWithParam<ModelCase> {};

TEST_P(Models, HasTheSizeThatIsPublished) {
  Workplace place;
  const Net net(place, ReadNet(kModels + GetParam().folder + "/deploy.prototxt"), {.phase = TEST});
  int64_t weights = 0, multiply_adds = 0;
  for (const LayerSummary& layer : SummaryOf(net)) {
    weights += layer.weights;
    multiply_adds += layer.multiply_adds;
  }
  std::cout << GetParam().folder << " " << weights << " " << multiply_adds << "\n";
  EXPECT_EQ(weights, GetParam().weights);
  EXPECT_NEAR(static_cast<double>(multiply_adds) / 1e9, GetParam().multiply_adds, 0.05);
}

std::vector<float> RandomNumbers(int64_t count) {
  std::vector<float> numbers;
  uint32_t state = 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    numbers.push_back(static_cast<float>(state >> 8) / (1 << 23) - 1);
  }
  return numbers;
}

TEST_P(Models, TakesAStep) {
  constexpr int64_t kBatch = 4, kIdentities = 100;
  NetParameter spec =
      ReplaceSources(ReadNet(kModels + GetParam().folder + "/train.prototxt"), {kBatch, 3, 112, 112});
  for (LayerParameter& layer : *spec.mutable_layer()) {
    if (layer.type() == "DistPartialFC") layer.mutable_dist_partial_fc_param()->set_num_output(kIdentities);
  }
  Workplace place;
  Net net(place, spec, {.phase = TRAIN, .backward = true});
  net.SetInput("data", RandomNumbers(kBatch * 3 * 112 * 112));
  net.SetInput("label", {5, 99, 0, 41});
  const double loss = net.Forward(place);
  // Between a right and a wholly wrong answer: ln(1) and the span of the scaled cosines plus margins.
  EXPECT_GT(loss, 0);
  EXPECT_LT(loss, 150);
  net.ZeroParamGrads();
  net.Backward(place);
  for (const Param* param : net.params()) {
    if (!param->needs_grad() || param->row_sparse) continue;
    const std::vector<float> grad = param->grad.ToHost<float>();
    const double squares = std::inner_product(grad.begin(), grad.end(), grad.begin(), 0.0);
    EXPECT_TRUE(std::isfinite(squares)) << param->name;
    EXPECT_GT(squares, 0) << param->name;
  }
}

TEST_P(Models, SolverNamesTheNet) {
  SolverParameter solver;
  ReadText(kModels + GetParam().folder + "/solver.prototxt", &solver);
  EXPECT_TRUE(solver.has_net());
  EXPECT_GT(solver.max_iter(), 0);
  EXPECT_GT(solver.base_lr(), 0);
  if (std::string(GetParam().folder) != "quickstart") {
    EXPECT_EQ(CREMA_SOURCE_DIR "/" + solver.net(), kModels + GetParam().folder + "/train.prototxt");
  }
}

TEST_P(Models, IsWhatTheGeneratorWrites) {
  const std::string folder = ::testing::TempDir() + "crema_models_" + GetParam().folder;
  std::filesystem::remove_all(folder);
  ASSERT_EQ(std::system((CREMA_BIN_DIR "/make_models " + folder).c_str()), 0);
  for (const char* file : {"/train.prototxt", "/deploy.prototxt"}) {
    const std::string path = std::string(GetParam().folder) + file;
    EXPECT_EQ(ReadFile(kModels + path), ReadFile(folder + "/" + path))
        << "run build/cpu/bin/make_models models after a change to tools/make_models.cpp";
  }
  std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(All, Models, ::testing::ValuesIn(kCases),
                         [](const auto& tested) { return std::string(tested.param.folder); });

TEST(CheckNet, PrintsTheTable) {
  FILE* pipe = popen(CREMA_BIN_DIR "/check_net --phase=TRAIN --input=2,3,112,112 --model=" CREMA_SOURCE_DIR
                                   "/models/quickstart/train.prototxt",
                     "r");
  std::string text;
  for (int c; (c = std::fgetc(pipe)) != EOF;) text += static_cast<char>(c);
  EXPECT_EQ(pclose(pipe), 0);
  EXPECT_NE(text.find("data 2x3x112x112, label 2"), std::string::npos) << text;
  EXPECT_NE(text.find("embedding 2x128"), std::string::npos) << text;
  EXPECT_NE(text.find("\nmemory: "), std::string::npos) << text;
}

}  // namespace
}  // namespace crema
