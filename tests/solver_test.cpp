// The solver's loop: ranks, iter_size, test passes, log lines, and the signs of a run that goes wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>

#include "solver/watch.hpp"
#include "solver_fixtures.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

SolverParameter Parse(const std::string& solver, const std::string& net) {
  SolverParameter spec;
  ParseText(solver, "test", &spec);
  ParseText(net, "test net", spec.mutable_net_param());
  return spec;
}

const char* const kFixed = "base_lr: 0.1 lr_policy: 'fixed' momentum: 0.9 max_iter: 4 random_seed: 1 ";

// R ranks with B / R samples each train as one rank with B does: the same losses, the same weights.
TEST(Solver, RanksShareTheBatch) {
  std::vector<double> wanted;
  std::vector<float> weights;
  for (const int ranks : {1, 2, 3, 4}) {
    RunRanks(ranks, [&](Communicator& comm) {
      TestPlace work(comm);
      Solver solver(work, Parse(Concat(kFixed, "weight_decay: 0.01 clip_gradients: 1"),
                                RecogniserNet(kGlobalBatch / ranks, "sample_rate: 1")));
      for (size_t i = 0; i < 20; ++i) {
        Train(&solver, comm, 1);
        if (ranks == 1) wanted.push_back(solver.last_loss());
        EXPECT_NEAR(solver.last_loss(), wanted[i], 1e-4 * wanted[i]) << ranks << " ranks, iteration " << i;
      }
      const std::vector<float> found = solver.net().layer("fc1")->param(0).value.ToHost<float>();
      if (ranks == 1) weights = found;
      for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], weights[i], 1e-4);
    });
  }
}

constexpr char kPlainNet[] =
    "name: 'plain' "
    "layer { name: 'data' type: 'Input' top: 'data' top: 'label' input_param { "
    "shape { dim: 4 dim: 3 } shape { dim: 4 } } } "
    "layer { name: 'fc1' type: 'InnerProduct' bottom: 'data' top: 'fc1' "
    "inner_product_param { num_output: 3 weight_filler { type: 'xavier' } } } "
    "layer { name: 'fc2' type: 'InnerProduct' bottom: 'fc1' top: 'fc2' "
    "inner_product_param { num_output: 5 weight_filler { type: 'xavier' } } } "
    "layer { name: 'accuracy' type: 'Accuracy' bottom: 'fc2' bottom: 'label' top: 'accuracy' "
    "include { phase: TEST } } "
    "layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'fc2' bottom: 'label' top: 'loss' loss_weight: 2 }";

void FeedPlain(Net* net, float first = 0) {
  std::vector<float> data;
  for (int i = 0; i < 12; ++i) data.push_back(std::sin(static_cast<float>(i)));
  data[0] += first;
  net->SetInput("data", data);
  net->SetInput("label", {0, 1, 2, 4});
}

// The loss is the mean over iter_size passes and the update that of the mean gradient.
TEST(Solver, IterSizeIsAMean) {
  TestPlace work;
  Solver one(work, Parse(kFixed, kPlainNet)), three(work, Parse(Concat(kFixed, "iter_size: 3"), kPlainNet));
  for (Solver* solver : {&one, &three}) {
    FeedPlain(&solver->net());
    solver->Step(3);
  }
  EXPECT_NEAR(one.last_loss(), three.last_loss(), 1e-6);
  const auto a = one.net().layer("fc1")->param(0).value.ToHost<float>();
  const auto b = three.net().layer("fc1")->param(0).value.ToHost<float>();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-6);
}

// The lines that people's scripts parse.
TEST(Solver, LogLines) {
  TempFolder folder;
  LogCapture log;
  TestPlace work;
  Solver solver(work, Parse(Concat(kFixed, " display: 2 average_loss: 2 test_iter: 2 test_interval: 2 ",
                                   "snapshot_prefix: '", folder / "run", "'"),
                            kPlainNet));
  FeedPlain(&solver.net());
  FeedPlain(&solver.test_net(0));
  solver.Solve();
  EXPECT_EQ(log.With("Solving plain").size(), 1u);
  EXPECT_EQ(log.With("Iteration 0, Testing net (#0)").size(), 1u);
  EXPECT_EQ(log.With("Testing net").size(), 3u);
  EXPECT_EQ(log.With("    Test net output #0: accuracy = ").size(), 3u);
  EXPECT_THAT(log.With("Test net output #1").at(0),
              MatchesRegex("    Test net output #1: loss = [0-9.]+ \\(\\* 2 = [0-9.]+ loss\\)"));
  const auto lines = log.With(" iter/s");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[1],
              MatchesRegex("Iteration 2 \\([0-9.e+]+ iter/s, [0-9.e-]+s/2 iters\\), loss = [0-9.]+"));
  EXPECT_EQ(log.With("    Train net output #0: loss = ").size(), 2u);
  EXPECT_EQ(log.With("Iteration 2, lr = 0.1").size(), 1u);
  EXPECT_EQ(log.With("Iteration 4, loss = ").size(), 1u);
  EXPECT_EQ(log.With("Optimization Done.").size(), 1u);
  EXPECT_EQ(log.With("Snapshotting to binary proto file " + folder / "run_iter_4.caffemodel").size(), 1u);
  EXPECT_EQ(log.With("Snapshotting solver state to binary proto file ").size(), 1u);
  EXPECT_EQ(log.With("samples/s").size(), 1u);  // nothing is known at iteration 0
  EXPECT_EQ(log.With("Global batch: 4 samples").size(), 1u);
  EXPECT_EQ(log.With("without sharing").size(), 1u);
  EXPECT_EQ(solver.test_outputs(0).size(), 2u);
}

TEST(Solver, StopsAndSnapshotsWhenAsked) {
  TempFolder folder;
  RunRanks(2, [&](Communicator& comm) {
    TestPlace work(comm);
    SolverParameter spec = Parse(kFixed, kPlainNet);
    spec.set_snapshot_prefix(folder / "run");
    spec.set_max_iter(20);
    int asked = 0;
    SolverOptions options;
    options.requested = [&] {  // rank 1 alone: a snapshot after 2 iterations, a stop after 5
      ++asked;
      if (comm.root()) return SolverAction::kNone;
      return asked == 2 ? SolverAction::kSnapshot : asked == 5 ? SolverAction::kStop : SolverAction::kNone;
    };
    Solver solver(work, spec, options);
    FeedPlain(&solver.net());
    solver.Solve();
    EXPECT_EQ(solver.iteration(), 5);
  });
  EXPECT_TRUE(FileExists(folder / "run_iter_2.solverstate"));
  EXPECT_TRUE(FileExists(folder / "run_iter_5.solverstate"));
}

TEST(Solver, NamesTheLayerWhereANumberStopsBeingFinite) {
  RunRanks(2, [](Communicator& comm) {
    TestPlace work(comm);
    const auto message = [&](const std::function<void(Solver*)>& spoil) {
      Solver solver(work, Parse(kFixed, kPlainNet));
      FeedPlain(&solver.net());
      solver.Step(1);
      spoil(&solver);
      return MessageOf([&] { solver.Step(1); });
    };
    const float nan = std::numeric_limits<float>::quiet_NaN(), large = 3e38f;
    EXPECT_THAT(message([&](Solver* s) {
                  if (!comm.root()) FeedPlain(&s->net(), nan);  // on one rank only
                }),
                HasSubstr("at iteration 1: the first value that is not finite is an output of layer 'data'"));
    EXPECT_THAT(message([&](Solver* s) { FeedPlain(&s->net(), large); }),
                HasSubstr("an output of layer 'fc"));
    EXPECT_THAT(message([&](Solver* s) {
                  s->net().layer("fc2")->param(1).value.FromHost(std::vector<float>(5, nan));
                }),
                HasSubstr("weight 1 of layer 'fc2'"));
  });
}

TEST(Solver, NetsAndTheirMistakes) {
  TestPlace work;
  const auto message = [&](const std::string& solver) {
    return MessageOf([&] { Solver made(work, Parse(solver, kPlainNet)); });
  };
  EXPECT_EQ(message(kFixed), "");
  EXPECT_THAT(message(Concat(kFixed, "net: 'net.prototxt'")), HasSubstr("2 training nets"));
  EXPECT_THAT(message(Concat(kFixed, "test_iter: 2")), HasSubstr("test_interval"));
  EXPECT_THAT(message(Concat(kFixed, "test_iter: 2 test_interval: 1 test_state {} test_state {}")),
              HasSubstr("test_state"));
  EXPECT_THAT(message(Concat(kFixed, "average_loss: 0")), HasSubstr("average_loss"));
  EXPECT_THAT(message("base_lr: 1 lr_policy: 'ladder'"), HasSubstr("ladder"));
  SolverParameter spec = Parse(kFixed, kPlainNet);
  spec.clear_net_param();
  spec.set_net("absent.prototxt");
  EXPECT_THAT(MessageOf([&] { Solver made(work, spec); }), HasSubstr("absent.prototxt"));
}

TEST(LossWatch, KnownSigns) {
  TestPlace work;
  Solver solver(work, Parse(kFixed, kPlainNet));
  LogCapture log;
  LossWatch watch(solver.net());
  for (int64_t i = 0; i < 500; ++i) watch.See(i, std::log(5.0) + 1e-4 * std::sin(static_cast<double>(i)));
  watch.See(500, 87.3365);
  watch.See(501, 69.0776);
  watch.See(502, 87.3365);
  EXPECT_EQ(log.With("ln(5)").size(), 1u);
  EXPECT_EQ(log.With("87.3365").size(), 1u);
  EXPECT_EQ(log.With("69.0776").size(), 1u);
  LossWatch fine(solver.net());
  LogCapture quiet;
  for (int64_t i = 0; i < 500; ++i) fine.See(i, 1.5 - 1e-3 * static_cast<double>(i));
  EXPECT_TRUE(quiet.With("").empty());
}

}  // namespace
}  // namespace crema
