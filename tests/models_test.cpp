// The nets of models/: each trains for a step and embeds an image, is as large as its README and others say,
// and is what make_models writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <regex>

#include "crema/embedder.hpp"
#include "net/summary.hpp"
#include "solver_fixtures.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

namespace fs = std::filesystem;

const std::string kFolder = CREMA_SOURCE_DIR "/models";

struct Model {
  const char* folder;
  double millions, giga;  // weights and multiply-adds that others publish; 0 where they do not
};

constexpr Model kModels[] = {{"mobilefacenet", 2.06, 0.45}, {"iresnet18", 24.0, 2.6},
                             {"iresnet50", 43.6, 6.3},      {"iresnet100", 65.2, 12.1},
                             {"sphereface20", 0, 0},        {"quickstart", 0, 0}};

constexpr int64_t kBatch = 2;  // of one image batch normalisation would leave nothing

bool AllFinite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

// Pixels as a data layer leaves them, from -1 to 1; the same in each run.
std::vector<float> Noise(int64_t count) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(random);
  return values;
}

class Models : public testing::TestWithParam<Model> {
 protected:
  std::string File(const char* name) const { return kFolder + "/" + GetParam().folder + "/" + name; }
  NetParameter Read(const char* name) const {
    NetParameter spec;
    ReadText(File(name), &spec);
    return spec;
  }
  // What the pattern's first group matches in the README; "" where nothing does.
  std::string InReadme(const char* pattern) const {
    const std::string text = ReadFile(File("README.md"));
    std::smatch match;
    return std::regex_search(text, match, std::regex(pattern)) ? match[1].str() : "";
  }
};

// As it is trained, but with fewer classes.
std::unique_ptr<Net> TrainingNet(const Context& ctx, const NetParameter& from) {
  NetParameter spec = ReplaceSources(from, {kBatch, 3, 112, 112});
  for (LayerParameter& layer : *spec.mutable_layer())
    if (layer.type() == "DistPartialFC") layer.mutable_dist_partial_fc_param()->set_num_output(1000);
  auto net = std::make_unique<Net>(ctx, spec, NetOptions{.phase = TRAIN, .backward = true});
  net->SetInput("data", Noise(kBatch * 3 * 112 * 112));
  net->SetInput("label", {0, 999});
  return net;
}

// Without fillers weights are 0, which is quick to make.
NetParameter WithoutFillers(NetParameter spec) {
  for (LayerParameter& layer : *spec.mutable_layer()) {
    if (layer.has_convolution_param()) layer.mutable_convolution_param()->clear_weight_filler();
    if (layer.has_inner_product_param()) {
      layer.mutable_inner_product_param()->clear_weight_filler();
      layer.mutable_inner_product_param()->clear_bias_filler();
    }
  }
  return spec;
}

void ExpectGradients(const Net& net) {
  for (const Param* param : net.params()) {
    if (!param->needs_grad()) continue;
    const std::vector<float> gradient = (param->row_sparse ? param->row_grad : param->grad).ToHost<float>();
    EXPECT_TRUE(AllFinite(gradient)) << param->name;
    EXPECT_TRUE(std::any_of(gradient.begin(), gradient.end(), [](float value) { return value != 0; }))
        << "no gradient reaches " << param->name;
  }
}

// A step of training; then the deploy net takes the weights and embeds an image.
TEST_P(Models, TrainAndEmbed) {
  TestPlace place;
  const auto net = TrainingNet(place, Read("train.prototxt"));
  net->ZeroParamGrads();
  const double loss = net->Forward(place);
  EXPECT_TRUE(std::isfinite(loss) && loss > 0) << loss;
  net->Backward(place);
  ExpectGradients(*net);

  const NetParameter deploy = WithoutFillers(Read("deploy.prototxt"));
  Embedder embedder(place, CutAtEmbedding(deploy, "", "deploy.prototxt"), 112, 112);
  embedder.CopyWeights(net->ToProto(), "the training net");
  embedder.RequireAllWeights();
  EXPECT_EQ(embedder.blob(), "embedding");
  EXPECT_EQ(std::to_string(embedder.dim()), InReadme("([0-9]+) numbers (?:\\||out)"));
  const std::vector<float> values = embedder.Run(place, Noise(embedder.input_count()));
  EXPECT_EQ(static_cast<int64_t>(values.size()), embedder.dim());
  EXPECT_TRUE(AllFinite(values));
  EXPECT_TRUE(std::any_of(values.begin(), values.end(), [](float value) { return value != 0; }));
}

TEST_P(Models, AreAsLargeAsTheReadmeAndOthersSay) {
  TestPlace place;
  const Net net(place, WithoutFillers(Read("deploy.prototxt")), {.phase = TEST});
  int64_t weights = 0, multiply_adds = 0;
  for (const LayerSummary& layer : SummaryOf(net)) {
    weights += layer.weights;
    multiply_adds += layer.multiply_adds;
  }
  std::string said = InReadme("([0-9,]+) weights,");
  std::erase(said, ',');
  if (said.empty() && std::string(GetParam().folder) == "quickstart") return;  // gives no sizes
  EXPECT_EQ(said, std::to_string(weights));
  char giga[16];
  std::snprintf(giga, sizeof(giga), "%.2f", static_cast<double>(multiply_adds) / 1e9);
  EXPECT_EQ(InReadme("([0-9.]+) G multiply-adds"), giga);
  if (GetParam().millions == 0) return;
  EXPECT_NEAR(static_cast<double>(weights) / 1e6, GetParam().millions, 0.002 * GetParam().millions);
  EXPECT_NEAR(static_cast<double>(multiply_adds) / 1e9, GetParam().giga, 0.03 * GetParam().giga);
}

TEST_P(Models, HaveASolver) {
  SolverParameter solver;
  ReadText(File("solver.prototxt"), &solver);
  // Paths are relative to the repository; quickstart's to its work folder, which it copies both files to.
  const std::string net = solver.net();
  EXPECT_TRUE(net == "train.prototxt" || CREMA_SOURCE_DIR "/" + net == File("train.prototxt")) << net;
  EXPECT_GT(solver.max_iter(), 0);
  EXPECT_GT(solver.base_lr(), 0);
}

INSTANTIATE_TEST_SUITE_P(Nets, Models, testing::ValuesIn(kModels),
                         [](const auto& test) { return test.param.folder; });

TEST(MakeModels, WritesTheFilesThatAreHere) {
  const std::string tool = CREMA_BIN_DIR "/make_models";
  ASSERT_TRUE(FileExists(tool)) << "build the target make_models too";
  TempFolder folder;
  ASSERT_EQ(std::system((tool + " '" + folder.path() + "'").c_str()), 0);
  std::vector<std::string> written, tested;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    written.push_back(entry.path().filename());
    for (const char* name : {"/train.prototxt", "/deploy.prototxt"})
      EXPECT_EQ(ReadFile(entry.path().string() + name), ReadFile(kFolder + "/" + written.back() + name))
          << written.back() << name << " differs; run make_models models";
  }
  for (const Model& model : kModels) tested.push_back(model.folder);
  EXPECT_THAT(written, testing::UnorderedElementsAreArray(tested));
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    const std::string name = entry.path().filename();
    EXPECT_TRUE(!entry.is_directory() || std::count(tested.begin(), tested.end(), name)) << name;
  }
}

}  // namespace
}  // namespace crema
