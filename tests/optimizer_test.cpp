// Update rules against the formulas of BVLC Caffe's solvers in float64, dense and by rows, and on several
// ranks.
#include "solver/optimizer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "crema/io.hpp"
#include "solver/reducer.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

SolverParameter Spec(const std::string& text) {
  SolverParameter spec;
  ParseText(text, "test", &spec);
  return spec;
}

std::vector<double> Random(int64_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<size_t>(count));
  for (double& x : values) x = normal(engine);
  return values;
}

std::unique_ptr<Param> MakeParam(const Context& ctx, const std::vector<double>& values, Shape shape) {
  auto param = std::make_unique<Param>();
  param->name = "fc/0";
  param->shape = shape;
  param->dtype = DType::kF64;
  param->value = Tensor(*ctx.device, DType::kF64, shape);
  param->value.FromHost(values);
  param->grad = Tensor(*ctx.device, DType::kF64, shape);
  return param;
}

// One element of a weight, as the formulas have it.
struct Element {
  double w, h0 = 0, h1 = 0;
};

void Expect(const std::string& type, const SolverParameter& p, double rate, double g, int64_t t, Element* e) {
  const double mu = p.momentum(), delta = p.delta(), beta2 = p.momentum2();
  const double decay = p.weight_decay() * (p.regularization_type() == "L1" ? (e->w > 0 ? 1 : -1) : e->w);
  if (type != "AdamW") g += decay;
  if (type == "SGD") {
    e->h0 = mu * e->h0 + rate * g;
    e->w -= e->h0;
  } else if (type == "Nesterov") {
    const double before = e->h0;
    e->h0 = mu * e->h0 + rate * g;
    e->w -= (1 + mu) * e->h0 - mu * before;
  } else if (type == "AdaGrad") {
    e->h0 += g * g;
    e->w -= rate * g / (std::sqrt(e->h0) + delta);
  } else if (type == "RMSProp") {
    e->h0 = p.rms_decay() * e->h0 + (1 - static_cast<double>(p.rms_decay())) * g * g;
    e->w -= rate * g / (std::sqrt(e->h0) + delta);
  } else if (type == "AdaDelta") {
    e->h0 = mu * e->h0 + (1 - mu) * g * g;
    const double update = g * std::sqrt((delta + e->h1) / (delta + e->h0));
    e->h1 = mu * e->h1 + (1 - mu) * update * update;
    e->w -= rate * update;
  } else {
    const double before = e->w;
    e->h0 = mu * e->h0 + (1 - mu) * g;
    e->h1 = beta2 * e->h1 + (1 - beta2) * g * g;
    const double correction = std::sqrt(1 - std::pow(beta2, static_cast<double>(t + 1))) /
                              (1 - std::pow(mu, static_cast<double>(t + 1)));
    e->w -= rate * correction * e->h0 / (std::sqrt(e->h1) + delta);
    if (type == "AdamW") e->w -= rate * p.weight_decay() * before;
  }
}

std::string Text(const std::string& type) {
  const bool momentum = type != "AdaGrad" && type != "RMSProp";
  return "type: '" + type + "' weight_decay: 0.125 delta: 0.001 " + (momentum ? "momentum: 0.75" : "");
}

class Rules : public testing::TestWithParam<std::string> {};

TEST_P(Rules, FollowTheFormula) {
  TestPlace work;
  for (const std::string regularization : {"L2", "L1"}) {
    if (regularization == "L1" && GetParam() == "AdamW") continue;
    const SolverParameter spec =
        Spec(Text(GetParam()) + " regularization_type: '" + regularization + "' iter_size: 2");
    constexpr int64_t kCount = 37;
    const std::vector<double> start = Random(kCount, 1);
    const auto param = MakeParam(work, start, {kCount});
    param->lr_mult = 2;
    param->decay_mult = 0.5;
    Optimizer optimizer(work, spec, {param.get()});
    std::vector<Element> wanted;
    for (double w : start) wanted.push_back({w});
    SolverParameter halved = spec;
    halved.set_weight_decay(spec.weight_decay() / 2);
    for (int64_t t = 0; t < 5; ++t) {
      const std::vector<double> grad = Random(kCount, 100 + static_cast<uint64_t>(t));
      param->grad.FromHost(grad);
      const double rate = 0.125 / static_cast<double>(1 + t);
      optimizer.Update(work, rate, t);
      for (size_t i = 0; i < wanted.size(); ++i)
        Expect(GetParam(), halved, 2 * rate, grad[i] / 2, t, &wanted[i]);
    }
    const std::vector<double> found = param->value.ToHost<double>();
    for (size_t i = 0; i < wanted.size(); ++i)
      EXPECT_NEAR(found[i], wanted[i].w, 1e-12 * (1 + std::abs(wanted[i].w)));
  }
}

// Rows that have no gradient keep their weight and state; with update_all_rows they move as with a gradient
// of zero.
TEST_P(Rules, GradientsByRows) {
  TestPlace work;
  const SolverParameter spec = Spec(Text(GetParam()));
  constexpr int64_t kRows = 6, kWidth = 3;
  const std::vector<double> start = Random(kRows * kWidth, 2);
  const std::vector<std::vector<int64_t>> rows_of_step = {{0, 2, 5}, {2}, {}, {1, 2, 3}};
  for (const bool all : {false, true}) {
    const auto sparse = MakeParam(work, start, {kRows, kWidth});
    sparse->row_sparse = true;
    sparse->update_all_rows = all;
    sparse->grad = Tensor();
    Optimizer optimizer(work, spec, {sparse.get()});
    std::vector<Element> wanted;
    for (double w : start) wanted.push_back({w});
    for (size_t t = 0; t < rows_of_step.size(); ++t) {
      const std::vector<int64_t>& rows = rows_of_step[t];
      const std::vector<double> grad = Random(static_cast<int64_t>(rows.size()) * kWidth, 50 + t);
      sparse->rows = rows;
      sparse->row_grad =
          Tensor(*work.context().device, DType::kF64, {static_cast<int64_t>(rows.size()), kWidth});
      sparse->row_grad.FromHost(grad);
      Tensor drawn(*work.context().device, DType::kI64, {static_cast<int64_t>(rows.size())});
      drawn.FromHost(rows);
      sparse->rule->CatchUp(work, {drawn.data<int64_t>(), 0, drawn.count()});  // as a layer does
      optimizer.Update(work, 0.25, static_cast<int64_t>(t));
      for (int64_t r = 0; r < kRows; ++r) {
        const auto at = std::find(rows.begin(), rows.end(), r);
        if (at == rows.end() && !all) continue;
        for (int64_t k = 0; k < kWidth; ++k) {
          const double g = at == rows.end() ? 0 : grad[static_cast<size_t>((at - rows.begin()) * kWidth + k)];
          Expect(GetParam(), spec, 0.25, g, static_cast<int64_t>(t),
                 &wanted[static_cast<size_t>(r * kWidth + k)]);
        }
      }
    }
    optimizer.CatchUp(work);
    const std::vector<double> found = sparse->value.ToHost<double>();
    for (size_t i = 0; i < wanted.size(); ++i)
      EXPECT_NEAR(found[i], wanted[i].w, 1e-8 * (1 + std::abs(wanted[i].w)))
          << i << (all ? " all" : " sampled");
  }
}

// Updates left for later, in float32, against the same made in every iteration, in float64: 1,000 iterations
// with a rate that rises and falls, each row drawn in one of about 20, one in three and one never.
class ComposingRules : public Rules {};
TEST_P(ComposingRules, CatchUpWithWhatTheyMissed) {
  TestPlace work;
  const SolverParameter spec = Spec(Text(GetParam()));
  constexpr int64_t kRows = 20, kWidth = 70, kSteps = 1000;
  const std::vector<double> start = Random(kRows * kWidth, 2);
  Param sparse;
  sparse.name = "classes/0", sparse.shape = {kRows, kWidth},
  sparse.row_sparse = sparse.update_all_rows = true;
  sparse.value = Tensor(*work.context().device, DType::kF32, sparse.shape);
  sparse.value.FromHost(std::vector<float>(start.begin(), start.end()));
  Optimizer optimizer(work, spec, {&sparse});
  std::vector<Element> wanted;
  for (double w : start) wanted.push_back({static_cast<float>(w)});
  const Philox random = MakePhilox(3, "rows");
  for (int64_t t = 0; t < kSteps; ++t) {
    std::vector<int64_t> rows;
    for (int64_t r = 1; r < kRows; ++r)
      if (random.Uniform(static_cast<uint64_t>(t * kRows + r)) < (r == 1 ? 0.33 : 0.05)) rows.push_back(r);
    const int64_t count = static_cast<int64_t>(rows.size());
    const std::vector<double> noise = Random(count * kWidth, 1000 + static_cast<uint64_t>(t));
    const std::vector<float> grad(noise.begin(), noise.end());
    Tensor drawn(*work.context().device, DType::kI64, {count});
    drawn.FromHost(rows);
    sparse.rule->CatchUp(work, {drawn.data<int64_t>(), 0, count});
    sparse.rows = rows;
    sparse.row_grad = Tensor(*work.context().device, DType::kF32, {count, kWidth});
    sparse.row_grad.FromHost(grad);
    const double rate = 0.01 * (1 + std::sin(static_cast<double>(t) / 100));
    optimizer.Update(work, rate, t);
    for (int64_t i = 0; i < kRows * kWidth; ++i) {
      const auto at = std::find(rows.begin(), rows.end(), i / kWidth);
      const double g =
          at == rows.end() ? 0 : grad[static_cast<size_t>((at - rows.begin()) * kWidth + i % kWidth)];
      Expect(GetParam(), spec, rate, g, t, &wanted[static_cast<size_t>(i)]);
    }
  }
  optimizer.CatchUp(work);
  const std::vector<float> found = sparse.value.ToHost<float>();
  for (int64_t r = 0; r < kRows; ++r) {
    double error = 0, size = 0;
    for (int64_t i = r * kWidth; i < (r + 1) * kWidth; ++i) {
      const double w = wanted[static_cast<size_t>(i)].w, d = found[static_cast<size_t>(i)] - w;
      error += d * d, size += w * w;
    }
    EXPECT_LT(std::sqrt(error / size), 1e-5) << "row " << r;
  }
}

INSTANTIATE_TEST_SUITE_P(Optimizer, Rules,
                         testing::Values("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam",
                                         "AdamW"),
                         [](const auto& test) { return test.param; });

INSTANTIATE_TEST_SUITE_P(Optimizer, ComposingRules, testing::Values("SGD", "Nesterov", "AdamW"),
                         [](const auto& test) { return test.param; });

TEST(Optimizer, SkipsStatisticsAndFixedWeights) {
  TestPlace work;
  const auto fixed = MakeParam(work, {1, 2}, {2}), statistic = MakeParam(work, {3, 4}, {2});
  fixed->lr_mult = 0;
  statistic->kind = Param::Kind::kStatistic;
  for (Param* param : {fixed.get(), statistic.get()}) param->grad.FromHost(std::vector<double>{1, 1});
  Optimizer optimizer(work, Spec("weight_decay: 1"), {fixed.get(), statistic.get()});
  optimizer.Update(work, 1, 0);
  EXPECT_EQ(fixed->value.ToHost<double>(), (std::vector<double>{1, 2}));
  EXPECT_EQ(statistic->value.ToHost<double>(), (std::vector<double>{3, 4}));
  EXPECT_EQ(optimizer.bytes(), 0);
}

TEST(Optimizer, SettingsThatDoNotFit) {
  EXPECT_EQ(SolverTypeOf(Spec("solver_type: ADAGRAD")), "AdaGrad");
  EXPECT_EQ(SolverTypeOf(Spec("")), "SGD");
  EXPECT_THROW(SolverTypeOf(Spec("solver_type: ADAM type: 'Adam'")), Error);
  EXPECT_THROW(SolverTypeOf(Spec("type: 'Sgd'")), Error);
  TestPlace work;
  EXPECT_THROW(Optimizer(work, Spec("type: 'AdaGrad' momentum: 0.9"), {}), Error);
  EXPECT_THROW(Optimizer(work, Spec("regularization_type: 'L3'"), {}), Error);
  EXPECT_THROW(Optimizer(work, Spec("iter_size: 0"), {}), Error);
  EXPECT_THROW(Optimizer(work, Spec("type: 'Adam' momentum: 1"), {}), Error);
}

// Two ranks: a replicated weight (3, 0) and a shard on each (rank 0: 4, rank 1: 12): the norm is 13.
TEST(Optimizer, ClipsTheNormOverAllRanksOnce) {
  RunRanks(2, [](Communicator& comm) {
    TestPlace work(comm);
    const auto replicated = MakeParam(work, {0, 0}, {2}), shard = MakeParam(work, {0}, {1, 1});
    shard->name = "classes/0";
    shard->sharded = shard->row_sparse = true;
    shard->first_row = comm.rank();
    shard->total_rows = 2;
    replicated->grad.FromHost(std::vector<double>{3, 0});
    shard->rows = {0};
    shard->row_grad = Tensor(*work.context().device, DType::kF64, {1, 1});
    shard->row_grad.FromHost(std::vector<double>{comm.root() ? 4.0 : 12.0});
    Optimizer optimizer(work, Spec("clip_gradients: 6.5"), {replicated.get(), shard.get()});
    optimizer.Update(work, 1, 0);
    EXPECT_NEAR(replicated->value.ToHost<double>()[0], -1.5, 1e-12);
    EXPECT_NEAR(shard->value.ToHost<double>()[0], comm.root() ? -2 : -6, 1e-12);
  });
}

// Gradients in one arena, as a net has them, and apart; buckets of several params and of one.
TEST(GradientReducer, SumsGradientsAndAveragesStatistics) {
  for (const int64_t bucket : {int64_t{1}, int64_t{100}, int64_t{1} << 20}) {
    RunRanks(3, [&](Communicator& comm) {
      TestPlace work(comm);
      Device& device = *work.context().device;
      const std::shared_ptr<void> arena = device.Allocate(4096);
      std::vector<std::unique_ptr<Param>> params;
      std::vector<Param*> pointers;
      for (int i = 0; i < 6; ++i) {
        params.push_back(MakeParam(work, Random(5, 1), {5}));
        if (i < 4)
          params[static_cast<size_t>(i)]->grad = Tensor(device, DType::kF64, {5}, 1, arena, (3 - i) * 64);
        params.back()->grad.FromHost(std::vector<double>(5, (comm.rank() + 1) * std::pow(10, i)));
        pointers.push_back(params.back().get());
      }
      params[4]->sharded = true;
      params[5]->kind = Param::Kind::kStatistic;
      params[5]->value.FromHost(std::vector<double>(5, comm.rank()));
      GradientReducer reducer(work, pointers, DType::kF32, bucket);
      EXPECT_EQ(reducer.buckets(), bucket == 1 ? 4u : bucket == 100 ? 2u : 1u);
      for (int round = 1; round <= 2; ++round) {
        for (size_t i = 4; i-- > 1;) reducer.Done(*params[i]);  // param 0 is left to Finish
        reducer.Finish();
        reducer.AverageStatistics(work);
        for (size_t i = 0; i < 4; ++i)
          EXPECT_EQ(params[i]->grad.ToHost<double>(),
                    std::vector<double>(5, (round == 1 ? 6 : 18) * std::pow(10, i)));
        EXPECT_EQ(params[4]->grad.ToHost<double>(), std::vector<double>(5, (comm.rank() + 1) * 1e4));
        EXPECT_NEAR(params[5]->value.ToHost<double>()[0], 1, 1e-15);
      }
    });
  }
}

// On their way gradients have 16 bits: sums are right to what that rounds, small and large ones alike.
TEST(GradientReducer, RoundsOnTheWay) {
  for (const auto& [dtype, tolerance] : {std::pair{DType::kBF16, 0.008}, {DType::kF16, 0.001}}) {
    RunRanks(2, [&, dtype = dtype, tolerance = tolerance](Communicator& comm) {
      TestPlace work(comm);
      const std::vector<double> sizes = {1e-7, 1e-3, 1, 60};
      std::vector<std::unique_ptr<Param>> params;
      std::vector<Param*> pointers;
      for (double size : sizes) {
        params.push_back(MakeParam(work, Random(5, 1), {5}));
        params.back()->grad.FromHost(std::vector<double>(5, (comm.rank() + 1) / 3.0 * size));
        pointers.push_back(params.back().get());
      }
      GradientReducer reducer(work, pointers, dtype);
      EXPECT_GT(reducer.bytes(), 0);
      for (size_t i = 4; i-- > 0;) reducer.Done(*params[i]);
      reducer.Finish();
      for (size_t i = 0; i < 4; ++i) {
        const double found = params[i]->grad.ToHost<double>()[2];
        EXPECT_NEAR(found, sizes[i], tolerance * sizes[i]) << NameOf(dtype);
      }
      EXPECT_EQ(GradientReducer::CollectivesFor(pointers, dtype)[0].bytes, 4 * 5 * 2);
    });
  }
}

}  // namespace
}  // namespace crema
