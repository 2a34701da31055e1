// The plan of a run against runs: the most resident memory of a process that trains, the bytes that ranks
// exchange, the buffers of the head and the optimiser; and plans of runs that no machine here could do.
#include "crema/run_plan.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <numeric>

#include "crema/parallel.hpp"
#include "data_fixtures.hpp"
#include "net/streaming_head.hpp"
#include "solver/optimizer.hpp"
#include "solver_fixtures.hpp"

namespace crema {
namespace {

using testing::HasSubstr;

// Quickstart's net on a database in `folder`, with another head and other fields of the solver.
SolverParameter Quickstart(const std::string& folder, const std::string& head, const std::string& fields) {
  SolverParameter spec;
  ReadText(CREMA_SOURCE_DIR "/models/quickstart/solver.prototxt", &spec);
  ReadText(CREMA_SOURCE_DIR "/models/quickstart/train.prototxt", spec.mutable_net_param());
  spec.clear_net();
  spec.clear_test_iter(), spec.clear_test_interval();
  for (LayerParameter& layer : *spec.mutable_net_param()->mutable_layer()) {
    if (layer.has_data_param()) layer.mutable_data_param()->set_source(folder);
    if (layer.has_data_param()) layer.mutable_data_param()->set_threads(2);
    if (!layer.has_dist_partial_fc_param()) continue;
    DistPartialFCParameter changes;
    ParseText(head, "head", &changes);
    layer.mutable_dist_partial_fc_param()->MergeFrom(changes);
  }
  SolverParameter changes;
  ParseText(fields, "fields", &changes);
  spec.MergeFrom(changes);
  return spec;
}

// ---------------------------------------------------------------------------------------- resident memory

struct MemoryCase {
  const char *name, *head, *solver;
};

// Quickstart clips gradients, so that gradients by rows wait; a negative limit lets rows be updated at once.
const MemoryCase kMemoryCases[] = {
    {"20k", "num_output: 20000", ""},
    {"100k", "num_output: 100000", ""},
    {"300k", "num_output: 300000", ""},
    {"300kAllDrawn", "num_output: 300000 sample_rate: 1", ""},
    {"100kPlain", "num_output: 100000 sample_rate: 0.5", "net_param { fuse: false }"},
    {"300kAtOnce", "num_output: 300000 sample_rate: 0.3 update: ALL_ROWS", "clip_gradients: -1"},
    {"600kBf16", "num_output: 600000 precision: BF16", "clip_gradients: -1"},
    {"300kAdamWIterSize2", "num_output: 300000 sample_rate: 0.2",
     "type: 'AdamW' momentum2: 0.999 iter_size: 2"},
    {"600kInFile", "num_output: 600000 sample_rate: 0.1 storage: FILE resident_mb: 100",
     "clip_gradients: -1"},
};

// The same number of threads on every machine: what each of them takes for itself is not planned.
SolverParameter SpecOf(const MemoryCase& c, const std::string& folder) {
#ifdef _OPENMP
  omp_set_num_threads(2);
#endif
  SolverParameter spec = Quickstart(folder + "/lmdb", c.head, c.solver);
  spec.set_snapshot_prefix(folder + "/snapshot");
  for (LayerParameter& layer : *spec.mutable_net_param()->mutable_layer())
    if (layer.has_dist_partial_fc_param()) layer.mutable_dist_partial_fc_param()->set_storage_dir(folder);
  return spec;
}

// The most memory of this process that was resident at a time.
int64_t PeakMemory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::stoll(line.substr(6)) * 1024;
  return 0;
}

// Run by the next test in a process of its own: two iterations and a snapshot, whose peak goes to the file.
TEST(RunPlanChild, Trains) {
  const char *number = std::getenv("CREMA_PLAN_CASE"), *folder = std::getenv("CREMA_PLAN_FOLDER");
  if (number == nullptr || folder == nullptr) GTEST_SKIP() << "this is run by PeakIsAsMeasured";
  const int64_t before = PeakMemory();
  const SolverParameter spec = SpecOf(kMemoryCases[std::atoi(number)], folder);
  Workplace place;
  Solver solver(place, spec);
  solver.Step(2);
  solver.Snapshot();
  std::ofstream(std::string(folder) + "/peak") << PeakMemory() - before;
}

class RunPlanMemory : public testing::TestWithParam<size_t> {};

TEST_P(RunPlanMemory, PeakIsAsMeasured) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers take memory of their own";
#endif
  const MemoryCase& c = kMemoryCases[GetParam()];
  TempFolder folder;
  std::vector<Datum> records;
  for (int i = 0; i < 64; ++i) records.push_back(RawDatum(i, {3, 112, 112}));
  WriteDatabase(folder / "lmdb", records);
  const std::string child = Concat("CREMA_PLAN_CASE=", GetParam(), " CREMA_PLAN_FOLDER='", folder.path(),
                                   "' '", std::filesystem::read_symlink("/proc/self/exe").string(),
                                   "' --gtest_filter=RunPlanChild.Trains > '", folder / "log", "' 2>&1");
  ASSERT_EQ(std::system(child.c_str()), 0) << ReadFile(folder / "log");
  const double measured = std::stod(ReadFile(folder / "peak")) / 1e6;
  const RunPlan plan = PlanRun(SpecOf(c, folder.path()), {});
  const double planned = static_cast<double>(plan.memory()) / 1e6;
  std::printf("%-20s planned %8.1f MB, measured %8.1f MB, ratio %.3f\n", c.name, planned, measured,
              planned / measured);
  EXPECT_NEAR(planned, measured, 0.1 * measured) << DescribePlan(plan);
}

INSTANTIATE_TEST_SUITE_P(Cases, RunPlanMemory, testing::Range(size_t{0}, std::size(kMemoryCases)),
                         [](const auto& test) { return std::string(kMemoryCases[test.param].name); });

// ------------------------------------------------------------------------------------------- its formulas

// The recogniser of the solver's tests, which needs no data.
SolverParameter Recogniser(int64_t batch, const std::string& head, const std::string& fields = "",
                           const std::string& net_fields = "") {
  SolverParameter spec;
  ParseText("base_lr: 0.05 lr_policy: 'fixed' momentum: 0.9 max_iter: 9 " + fields, "solver", &spec);
  ParseText(RecogniserNet(batch, head) + net_fields, "net", spec.mutable_net_param());
  return spec;
}

// Counts what goes through another communicator.
class Counting final : public Communicator {
 public:
  explicit Counting(Communicator& comm) : comm_(comm) {}
  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }
  void AllReduce(Tensor* tensor, Reduce op) override {
    reduced += tensor->bytes(), comm_.AllReduce(tensor, op);
  }
  std::unique_ptr<Pending> StartAllReduce(Tensor* tensor, Reduce op) override {
    reduced += tensor->bytes();
    return comm_.StartAllReduce(tensor, op);
  }
  void AllGather(const Tensor& mine, const std::vector<int64_t>& rows, Tensor* all) override {
    gathered += all->bytes();
    comm_.AllGather(mine, rows, all);
  }
  void ReduceScatter(const Tensor& all, const std::vector<int64_t>& rows, Tensor* mine) override {
    scattered += all.bytes();
    comm_.ReduceScatter(all, rows, mine);
  }
  void Broadcast(Tensor* tensor, int root) override { comm_.Broadcast(tensor, root); }
  void Barrier() override { comm_.Barrier(); }
  std::vector<int64_t> AllGatherNumbers(const std::vector<int64_t>& mine,
                                        const std::vector<int64_t>& counts) override {
    const std::vector<int64_t> all = comm_.AllGatherNumbers(mine, counts);
    if (mine.size() > 1) gathered += std::ssize(all) * SizeOf(DType::kI64);  // labels, not single numbers
    return all;
  }
  void Abort(const std::string& message) override { comm_.Abort(message); }

  int64_t reduced = 0, gathered = 0, scattered = 0;

 private:
  Communicator& comm_;
};

TEST(RunPlan, CommunicationIsWhatRanksExchange) {
  for (const char* fuse : {" fuse: true", " fuse: false"}) {
    for (int64_t iter_size : {1, 2}) {
      const SolverParameter spec =
          Recogniser(kGlobalBatch / 3, "sample_rate: 0.5", Concat("iter_size: ", iter_size), fuse);
      RunRanks(3, [&](Communicator& comm) {
        Counting counting(comm);
        Workplace place(counting);
        Solver solver(place, spec);
        FeedRecogniser(&solver, comm);
        counting.reduced = counting.gathered = counting.scattered = 0;
        solver.Step(1);
        PlanOptions options;
        options.ranks = 3;
        int64_t planned[3] = {0, 0, 0};
        for (const Collective& one : PlanRun(spec, options).collectives)
          planned[static_cast<int>(one.kind)] += one.bytes;
        // Left out: padding between gradients, and single numbers that ranks agree on.
        EXPECT_GE(counting.reduced, planned[0]) << fuse;
        EXPECT_LE(counting.reduced, planned[0] + 64 * 3 + 64) << fuse;
        EXPECT_EQ(counting.gathered, planned[1]) << fuse;
        EXPECT_EQ(counting.scattered, planned[2]) << fuse;
      });
    }
  }
}

TEST(RunPlan, StateAndBuffersAreThoseOfTheRun) {
  for (const char* fields : {"", "clip_gradients: 1", "type: 'AdamW' momentum2: 0.999"}) {
    const SolverParameter spec = Recogniser(kGlobalBatch, "sample_rate: 1 update: ALL_ROWS", fields);
    Workplace place;
    NetOptions options;
    options.phase = TRAIN, options.backward = true;
    Net net(place, spec.net_param(), options);
    Optimizer optimizer(place, spec, net.params());
    const RunPlan plan = PlanRun(spec, {});
    EXPECT_EQ(net.plan().params, plan.weights + plan.centres) << fields;
    EXPECT_EQ(net.plan().param_grads, plan.weight_grads) << fields;
    EXPECT_EQ(net.plan().planned, plan.activations) << fields;
    EXPECT_EQ(optimizer.bytes(), plan.weight_state + plan.centre_state + 8 * kClasses) << fields;

    optimizer.Begin(0.1, 0);
    net.Forward(place);
    net.Backward(place);
    const auto* head = dynamic_cast<const StreamingHead*>(net.steps().back().layer);
    ASSERT_NE(head, nullptr);
    const bool at_once = Optimizer::UpdatesRowsAtOnce(spec);
    const auto sizes =
        StreamingSoftmax<float>::SizesFor(Pieces::On(*place.context().device, kGlobalBatch, 5),
                                          {kGlobalBatch, 5, kClasses, false, true, at_once}, 128 << 20);
    EXPECT_EQ(head->bytes(), sizes.bytes(Workers(place))) << fields;
    EXPECT_GE(plan.head_workspace(), head->bytes()) << fields;
  }
}

TEST(RunPlan, DataIsOpenedOrItsSizeGiven) {
  TempFolder folder;
  const std::string lmdb = folder / "lmdb";
  const SolverParameter spec = Quickstart(lmdb, "num_output: 1000", "");
  EXPECT_THAT(MessageOf([&] { PlanRun(spec, {}); }),
              HasSubstr("there is no '" + lmdb + "' to take the size"));
  PlanOptions given;
  given.image = {3, 112, 112};
  const RunPlan without = PlanRun(spec, given);
  WriteDatabase(lmdb, {RawDatum(0, {3, 112, 112})});
  const RunPlan with = PlanRun(spec, {});
  EXPECT_EQ(with.batches, without.batches);
  EXPECT_EQ(with.batch, without.batch);
  EXPECT_NEAR(static_cast<double>(with.memory()), static_cast<double>(without.memory()),
              0.02 * static_cast<double>(with.memory()));
}

TEST(RunPlan, AnswersForAHundredMillion) {
  SolverParameter spec;
  ReadText(CREMA_SOURCE_DIR "/models/iresnet100/solver.prototxt", &spec);
  spec.set_net(CREMA_SOURCE_DIR "/" + spec.net());
  for (int ranks : {8, 64}) {
    PlanOptions options;
    options.ranks = ranks, options.classes = 100000000, options.image = {3, 112, 112};
    const auto begin = std::chrono::steady_clock::now();
    const RunPlan plan = PlanRun(spec, options);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    EXPECT_EQ(plan.rows, 100000000 / ranks);
    EXPECT_EQ(plan.centres, plan.rows * 512 * 4);
    EXPECT_EQ(plan.centre_state, plan.centres);
    EXPECT_LT(seconds, 10) << "a plan takes a moment, on a busy machine too";
    EXPECT_LT(PeakMemory(), int64_t{4} << 30) << "a plan takes none of the memory that it speaks of";
  }
}

TEST(RunPlan, MostIdentitiesFitAndNoMore) {
  const SolverParameter spec = Recogniser(64, "sample_rate: 0.1");
  PlanOptions options;
  options.ranks = 4;
  for (const int64_t bytes : {int64_t{100} << 20, int64_t{5} << 30}) {
    options.classes = MostIdentities(spec, options, bytes);
    EXPECT_LE(PlanRun(spec, options).memory(), bytes);
    options.classes += options.classes / 500 + 10;
    EXPECT_GT(PlanRun(spec, options).memory(), bytes);
  }
  EXPECT_EQ(MostIdentities(spec, options, 1000), 0);
}

TEST(RunPlan, BytesHaveUnits) {
  EXPECT_EQ(ParseBytes("32GB"), 32000000000);
  EXPECT_EQ(ParseBytes("1.5 KiB"), 1536);
  for (const char* bad : {"", "32", "32XB", "GB", "-1GB", "0GB", "1GB more", "1e30GB", "nanGB"})
    EXPECT_THAT(MessageOf([&] { ParseBytes(bad); }), HasSubstr("such as 32GB")) << bad;
}

TEST(ImaginedCommunicator, GathersNumbersAndNothingElse) {
  const auto comm = NewImaginedCommunicator(5);
  EXPECT_EQ(comm->size(), 5);
  EXPECT_EQ(comm->AllGatherNumber(7), std::vector<int64_t>(5, 7));
  Workplace place;
  Tensor one(*place.context().device, DType::kF32, {1});
  EXPECT_THAT(MessageOf([&] { comm->AllReduce(&one, Reduce::kSum); }), HasSubstr("imagined ranks of a plan"));
  EXPECT_THAT(MessageOf([&] { NewImaginedCommunicator(0); }), HasSubstr("at least 1"));
}

}  // namespace
}  // namespace crema
