// Ten training runs of BVLC Caffe (shared/data/caffe/training): losses, rates, clip factors, weights and
// histories.
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "data_fixtures.hpp"
#include "solver_fixtures.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

std::string GoldenFolder() {
  const std::string folder = SharedData() + "/caffe/training";
  return FileExists(folder) ? std::filesystem::canonical(folder).string() : "";
}

template <class T>
std::vector<T> ReadRaw(const std::string& path) {
  const std::string bytes = ReadFile(path);
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

// |a - b| / |b| of whole tensors; |a - b| where b is zero.
double RelativeDistance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(norm > 0 ? difference / norm : difference);
}

std::vector<float> Floats(const Tensor& tensor) {
  std::vector<float> floats;
  ForReal(tensor.dtype(), [&]<class T>() {
    const std::vector<T> values = tensor.ToHost<T>();
    floats.assign(values.begin(), values.end());
  });
  return floats;
}

std::vector<double> ValuesOf(const BlobProto& blob) {
  if (blob.double_data_size() > 0) return {blob.double_data().begin(), blob.double_data().end()};
  return {blob.data().begin(), blob.data().end()};
}

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string root = GoldenFolder();
    if (root.empty()) GTEST_SKIP() << "shared/data/caffe/training is absent";
    before_ = std::filesystem::current_path();
    std::filesystem::current_path(root + "/" + GetParam());
    const auto status = google::protobuf::util::JsonStringToMessage(ReadFile("golden.json"), &golden_);
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  void TearDown() override {
    if (!before_.empty()) std::filesystem::current_path(before_);
  }

  // The case's solver, its snapshots in a folder of the test.
  SolverParameter Spec() const {
    SolverParameter spec;
    ReadText("solver.prototxt", &spec);
    spec.set_snapshot_prefix(folder_ / "golden");
    return spec;
  }
  bool ReadsDatabase() const { return GetParam() == "sgd_itersize2" || GetParam() == "sgd_lmdb_uint8"; }
  void Feed(Solver* solver) const {
    if (ReadsDatabase()) return;
    std::vector<float> data = ReadRaw<float>("../data/data_64x3x20x20.f32");
    const std::vector<int32_t> labels = ReadRaw<int32_t>("../data/label_64.i32");
    data.resize(8 * 3 * 20 * 20);
    solver->net().SetInput("data", data);
    solver->net().SetInput("label", {labels.begin(), labels.begin() + 8});
  }
  const Value& Field(const std::string& name) const { return golden_.fields().at(name); }
  double Number(const Value& list, int i) const { return list.list_value().values(i).number_value(); }

  // How far two BLAS libraries under Caffe itself are apart for this weight; never asked to be finer than
  // `least`.
  double Tolerance(const std::string& iteration, const std::string& weight, double least) const {
    const auto& noise =
        Field("noise_per_param").struct_value().fields().at(iteration).struct_value().fields();
    const auto found = noise.find(weight);
    return std::max(least, found == noise.end() ? 0 : 20 * found->second.number_value());
  }
  void CompareWeights(Net& net, const std::string& iteration, double least) const {
    int compared = 0;
    for (const auto& layer : net.layers()) {
      for (size_t i = 0; i < layer->params().size(); ++i) {
        const std::string name = Concat(layer->name(), ".", i);
        const std::vector<float> wanted = ReadRaw<float>(Concat("iter_", iteration, "/", name, ".f32"));
        const std::vector<float> found = Floats(layer->param(i).value);
        ASSERT_EQ(found.size(), wanted.size()) << name;
        EXPECT_LE(RelativeDistance(found, wanted), Tolerance(iteration, name, least))
            << name << " after " << iteration << " iterations";
        ++compared;
      }
    }
    EXPECT_GE(compared, 20);
  }

  // Ten iterations in the given type; `slack` times what two builds of Caffe differ by is allowed.
  void Train(DType real, double slack);
  void CompareClipping(const LogCapture& log, double slack) const;
  void CompareHistory(Solver* solver, double slack) const;
  bool is_adam() const { return GetParam() == "adam"; }  // amplifies the rounding of gradients near zero

  TempFolder folder_;
  Struct golden_;
  std::filesystem::path before_;
};

void Golden::Train(DType real, double slack) {
  LogCapture log;
  TestPlace work;
  work.context().real = real;
  SolverOptions options;
  options.weights = {GetParam() == "nesterov" || is_adam() ? "../init_nobias1.caffemodel"
                                                           : "../init.caffemodel"};
  Solver solver(work, Spec(), options);
  for (int i = 0; i < 10; ++i) {
    Feed(&solver);
    EXPECT_NEAR(LearningRate(Spec(), i), Number(Field("lr").list_value().values(i), 1), 1e-6);
    solver.Step(1);
    const double wanted = Number(Field("losses"), i);
    // With iter_size what was noted is the loss blob: the loss of the last part, not their mean.
    const double found = Spec().iter_size() > 1 ? solver.net().BlobValues("loss").at(0) : solver.last_loss();
    EXPECT_NEAR(found, wanted, (i == 0 ? 1e-5 : slack * (is_adam() ? 1e-3 : 1e-4)) * std::abs(wanted)) << i;
    if (i == 0) CompareWeights(solver.net(), "1", 1e-5);
  }
  CompareWeights(solver.net(), "10", slack * (is_adam() ? 2e-4 : 5e-5));
  CompareClipping(log, slack);
  CompareHistory(&solver, slack);
}

void Golden::CompareClipping(const LogCapture& log, double slack) const {
  const auto clipped = log.With("Gradient clipping");
  const auto& wanted_clips = Field("clip_lines").list_value();
  ASSERT_EQ(static_cast<int>(clipped.size()), wanted_clips.values_size());
  for (int i = 0; i < wanted_clips.values_size(); ++i) {
    const char* const kFormat =
        "Gradient clipping: scaling down gradients (L2 norm %lf > 0.5) by scale factor %lf";
    double found[2], wanted[2];
    ASSERT_EQ(std::sscanf(clipped[static_cast<size_t>(i)].c_str(), kFormat, &found[0], &found[1]), 2);
    ASSERT_EQ(std::sscanf(wanted_clips.values(i).string_value().c_str(), kFormat, &wanted[0], &wanted[1]), 2);
    for (int k : {0, 1}) EXPECT_NEAR(found[k], wanted[k], slack * 1e-4 * wanted[k]);
  }
}

void Golden::CompareHistory(Solver* solver, double slack) const {
  SolverState found, wanted;
  ReadBinary(solver->Snapshot(), &found);
  ReadBinary("snap_iter_10.solverstate", &wanted);
  EXPECT_EQ(found.iter(), wanted.iter());
  EXPECT_EQ(found.current_step(), wanted.current_step());
  ASSERT_EQ(found.history_size(), wanted.history_size());
  const std::vector<Param*>& params = solver->net().params();
  for (int i = 0; i < wanted.history_size(); ++i) {
    const std::vector<double> a = ValuesOf(found.history(i)), b = ValuesOf(wanted.history(i));
    ASSERT_EQ(a.size(), b.size()) << i;
    // Caffe's Adam keeps moments of the decay of BatchNorm's statistics, which no update ever uses.
    if (params[static_cast<size_t>(i) % params.size()]->kind == Param::Kind::kStatistic) continue;
    double largest = 0, difference = 0;
    for (size_t k = 0; k < b.size(); ++k) {
      largest = std::max(largest, std::abs(b[k]));
      difference = std::max(difference, std::abs(a[k] - b[k]));
    }
    // Biases before a BatchNorm have a gradient of rounding errors alone.
    EXPECT_LE(difference, slack * std::max(1e-7, (is_adam() ? 5e-3 : 5e-4) * largest)) << "history " << i;
  }
}

// In float64 the run is exact, so what differs is Caffe's own rounding.
TEST_P(Golden, TrainsAsCaffeDoes) {
  Train(DType::kF64, 1);
}

// In float32 a value near zero may fall on another side of a PReLU, or another pixel win a maximum, than in
// Caffe.
TEST_P(Golden, TrainsAsCaffeDoesInSinglePrecision) {
  Train(DType::kF32, 200);
}

// Caffe's own snapshot is resumed, and what is written from it says the same.
TEST_P(Golden, ResumesFromCaffesSnapshot) {
  TestPlace work;
  SolverOptions options;
  options.snapshot = "snap_iter_10.solverstate";
  Solver solver(work, Spec(), options);
  EXPECT_EQ(solver.iteration(), 10);
  CompareWeights(solver.net(), "10", 0);
  Feed(&solver);
  solver.Step(1);
  EXPECT_EQ(solver.iteration(), 11);
}

INSTANTIATE_TEST_SUITE_P(Caffe, Golden,
                         testing::Values("sgd_fixed", "sgd_step", "sgd_multistep", "sgd_poly", "sgd_clip",
                                         "sgd_lrmult", "sgd_itersize2", "sgd_lmdb_uint8", "nesterov", "adam"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace crema
