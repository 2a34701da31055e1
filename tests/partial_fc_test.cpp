// DistPartialFC and MarginSoftmax: draws, margins, and the pair against one dense softmax on 1 to 4 ranks.
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "crema/permutation.hpp"
#include "net/partial_fc.hpp"
#include "partial_fc_checks.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

TEST(Shard, CoversAllClassesOnce) {
  for (int64_t classes : {1, 7, 12, 100}) {
    for (int ranks : {1, 2, 3, 8}) {
      int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Shard shard = ShardOf(classes, ranks, rank);
        EXPECT_EQ(shard.first, next);
        EXPECT_EQ(shard.rows, classes / ranks + (rank < classes % ranks));
        next += shard.rows;
      }
      EXPECT_EQ(next, classes);
    }
  }
}

std::vector<int64_t> Global(const ClassDraw& draw, int64_t classes, int ranks, int64_t iteration,
                            const std::vector<int64_t>& labels) {
  std::vector<int64_t> all;
  for (int rank = 0; rank < ranks; ++rank) {
    const Shard shard = ShardOf(classes, ranks, rank);
    const std::vector<int64_t> rows = draw.Draw(shard, iteration, labels);
    EXPECT_LE(static_cast<int64_t>(rows.size()), draw.MostRows(shard, static_cast<int64_t>(labels.size())));
    for (int64_t row : rows) all.push_back(shard.first + row);
  }
  return all;
}

TEST(ClassDraw, IsTheSameOnAnyNumberOfRanks) {
  const int64_t classes = 3 * ClassDraw::kCell + 777;
  const ClassDraw draw(5, classes, 0.1);
  const std::vector<int64_t> labels = {3, 16384, 49000, 3, classes - 1};
  const std::vector<int64_t> one = Global(draw, classes, 1, 4, labels);
  EXPECT_EQ(one.size(), static_cast<size_t>(std::floor(0.1 * static_cast<double>(classes))));
  EXPECT_TRUE(std::is_sorted(one.begin(), one.end()));
  EXPECT_EQ(std::set<int64_t>(one.begin(), one.end()).size(), one.size());
  for (int64_t label : labels) EXPECT_TRUE(std::binary_search(one.begin(), one.end(), label)) << label;
  for (int ranks : {2, 3, 4, 7}) EXPECT_EQ(Global(draw, classes, ranks, 4, labels), one) << ranks;
}

TEST(ClassDraw, DiffersByIterationAndKey) {
  const ClassDraw draw(5, 5000, 0.1), other(6, 5000, 0.1);
  const std::vector<int64_t> labels = {1};
  EXPECT_NE(Global(draw, 5000, 1, 0, labels), Global(draw, 5000, 1, 1, labels));
  EXPECT_NE(Global(draw, 5000, 1, 0, labels), Global(other, 5000, 1, 0, labels));
}

TEST(ClassDraw, NeverDropsPositives) {
  std::vector<int64_t> labels(64);
  std::iota(labels.begin(), labels.end(), int64_t{100});
  EXPECT_EQ(Global(ClassDraw(1, 1000, 0.01), 1000, 3, 0, labels), labels);
  EXPECT_EQ(Global(ClassDraw(1, 1000, 0), 1000, 3, 0, labels), labels);
  EXPECT_EQ(Global(ClassDraw(1, 1000, 1), 1000, 3, 0, labels).size(), 1000u);
}

TEST(ClassDraw, BlocksAreRunsOfTheSameNumberOnAnyNumberOfRanks) {
  const int64_t classes = 3 * ClassDraw::kCell + 777;
  const ClassDraw draw(5, classes, 0.1, 64);
  const std::vector<int64_t> labels = {3, 16384, 49000, classes - 1};
  const std::vector<int64_t> one = Global(draw, classes, 1, 4, labels);
  EXPECT_EQ(one.size(), static_cast<size_t>(std::floor(0.1 * static_cast<double>(classes))));
  for (int64_t label : labels) EXPECT_TRUE(std::binary_search(one.begin(), one.end(), label)) << label;
  for (int ranks : {2, 3, 7}) EXPECT_EQ(Global(draw, classes, ranks, 4, labels), one) << ranks;
  size_t runs = 1;
  for (size_t i = 1; i < one.size(); ++i) runs += one[i] != one[i - 1] + 1;
  EXPECT_LT(runs, one.size() / 40);
}

TEST(PermutationTest, HasAnInverse) {
  for (int64_t size : {1, 2, 5, 1000, 16384, 1000003}) {
    const Permutation permutation(9, size);
    for (int64_t i = 0; i < size; i += 1 + size / 500) EXPECT_EQ(permutation.Inverse(permutation(i)), i);
  }
}

// Pearson's test: each of 1,000 classes is drawn equally often over many iterations.
TEST(ClassDraw, IsUniform) {
  const int64_t classes = 1000, iterations = 4000;
  const ClassDraw draw(11, classes, 0.1), blocks(11, classes, 0.1, 8);
  std::vector<double> by_blocks(classes);
  for (int64_t t = 0; t < iterations; ++t) {
    for (int64_t c : blocks.Draw({0, classes}, t, {})) ++by_blocks[c];
  }
  // Neighbours come together, so that each class alone is looked at: five standard deviations of its count.
  for (double n : by_blocks) EXPECT_NEAR(n, 400, 5 * std::sqrt(400 * 0.9));
  std::vector<double> count(classes);
  for (int64_t t = 0; t < iterations; ++t) {
    for (int64_t c : draw.Draw({0, classes}, t, {})) ++count[c];
  }
  const double expected = 0.1 * iterations;
  double chi_square = 0;
  for (double n : count) chi_square += (n - expected) * (n - expected) / (expected * 0.9);
  // Mean 999 and standard deviation 44.7: five deviations either way.
  EXPECT_NEAR(chi_square, 999, 5 * 44.7);
}

// Two classes of one iteration are drawn together as often as chance has it.
TEST(ClassDraw, PairsAreIndependent) {
  const int64_t classes = 400, iterations = 20000;
  const ClassDraw draw(12, classes, 0.25);
  double together = 0, next_too = 0;
  std::set<int64_t> last;
  for (int64_t t = 0; t < iterations; ++t) {
    const std::vector<int64_t> rows = draw.Draw({0, classes}, t, {});
    const std::set<int64_t> now(rows.begin(), rows.end());
    together += now.count(17) && now.count(18);
    next_too += t > 0 && last.count(17) && now.count(17);
    last = now;
  }
  const double expected = 0.0625 * iterations, deviation = std::sqrt(expected * (1 - 0.0625));
  EXPECT_NEAR(together, expected, 5 * deviation);
  EXPECT_NEAR(next_too, expected, 5 * deviation);
}

TEST(MarginTest, IsFiniteAndFallsEverywhere) {
  for (const Margin margin : {Margin{}, Margin{1, 0.5, 0}, Margin{1, 0, 0.4}, Margin{4, 0, 0},
                              Margin{1.35, 0, 0}, Margin{1.1, 0.3, 0.1}, Margin{2, 0.5, 0.2}}) {
    double last = -std::numeric_limits<double>::infinity();
    for (int i = -2000; i <= 2000; ++i) {
      const double c = i / 2000.0, value = margin.Value(c);
      EXPECT_TRUE(std::isfinite(value) && std::isfinite(margin.Derivative(c))) << c;
      EXPECT_GE(value, last - 1e-9) << margin.m1 << " " << margin.m2 << " at " << c;
      EXPECT_LE(value, 1) << c;
      last = value;
    }
    EXPECT_TRUE(std::isfinite(margin.Value(1.0000002)) && std::isfinite(margin.Value(-1.0000002)));
  }
}

TEST(MarginTest, DerivativeIsThatOfTheValue) {
  for (const Margin margin :
       {Margin{1, 0.5, 0}, Margin{4, 0, 0}, Margin{1.1, 0.3, 0.1}, Margin{1, 0.5, 0, true}}) {
    for (double c = -0.995; c < 0.996; c += 0.0101) {
      const double h = 1e-6, numeric = (margin.Value(c + h) - margin.Value(c - h)) / (2 * h);
      if (std::abs(numeric) > 100) continue;  // a step across the jump of the m1 = 1 rule or of easy
      EXPECT_NEAR(margin.Derivative(c), numeric, 1e-4 * std::max(1.0, std::abs(numeric))) << c;
    }
  }
}

TEST(PartialFC, EqualsADenseSoftmaxOnAnyNumberOfRanks) {
  for (int ranks : {1, 2, 3, 4}) {
    int number = 0;
    for (const HeadCase& c : HeadCases()) {
      SCOPED_TRACE(Concat(ranks, " ranks, case ", number++));
      RunRanks(ranks, [&](Communicator& comm) { CheckHead(comm, c); });
    }
  }
}

// Cosines of exactly +-1 and angles past pi, in float32.
TEST(PartialFC, IsFiniteAtTheEdges) {
  HeadCase c;
  c.classes = 2, c.width = 2, c.labels = {0, 1, 0, 1}, c.scale = 64;
  for (const char* margin : {"m2: 0.5", "m3: 0.4", "m1: 4", "m1: 1.2 m2: 0.4 m3: 0.1"}) {
    c.margin = margin;
    TestPlace place;
    NetOptions options;
    options.phase = TRAIN, options.backward = true;
    Net net(place, HeadNet(c, 4), options);
    net.params()[0]->value.FromHost(std::vector<float>{1, 0, -1, 0});
    net.SetInput("x", {3, 0, 3, 0, -5, 0, 0, 1});
    net.SetInput("label", {0, 1, 0, 1});
    EXPECT_TRUE(std::isfinite(net.Forward(place))) << margin;
    net.Backward(place);
    for (float g : net.BlobGrads("x")) EXPECT_TRUE(std::isfinite(g)) << margin;
    for (float g : net.params()[0]->row_grad.ToHost<float>()) EXPECT_TRUE(std::isfinite(g)) << margin;
  }
}

// At the start embeddings and centres are independent, so cosines are about normal with variance 1 / D:
// CosFace's loss is ln(r C) + s^2 / (2 D) + s m (ANCHORS.md c3, derived from the Gaussian's moments).
TEST(PartialFC, StartsAtTheLossThatTheoryGives) {
  HeadCase c;
  c.classes = 20000, c.width = 512, c.scale = 64, c.rate = 0.5, c.margin = "m3: 0.4";
  const int64_t batch = 64;
  std::vector<float> x(batch * c.width), label(batch);
  const Philox random = MakePhilox(9, "x");
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random.Normal(i));
  for (size_t i = 0; i < label.size(); ++i) label[i] = static_cast<float>(i * 311);
  TestPlace place;
  NetOptions options;
  options.phase = TRAIN;
  Net net(place, HeadNet(c, batch), options);
  net.SetInput("x", x);
  net.SetInput("label", label);
  const double expected = std::log(0.5 * 20000) + 64.0 * 64 / (2 * 512) + 64 * 0.4;
  EXPECT_NEAR(net.Forward(place), expected, 0.02 * expected);
}

TEST(PartialFC, RefusesBadLabelsAndOptions) {
  HeadCase c;
  c.classes = 5, c.width = 2;
  TestPlace place;
  NetOptions options;
  options.phase = TRAIN;
  Net net(place, HeadNet(c, 2), options);
  net.SetInput("x", {1, 0, 0, 1});
  net.SetInput("label", {0, 5});
  try {
    net.Forward(place);
    FAIL() << "a label out of range passed";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "layer 'fc' (DistPartialFC): sample 1 has label 5; expected 0 to 4 (num_output is 5)");
  }
  c.rate = 1.5;
  EXPECT_THROW(Net(place, HeadNet(c, 2), options), Error);
  c.rate = 1, c.margin = "m1: 0";
  EXPECT_THROW(Net(place, HeadNet(c, 2), options), Error);
}

// A plain classifier under the same loss: each rank has its own samples and all classes.
TEST(MarginSoftmaxTest, TakesAPlainClassifier) {
  const char* text = R"(
    force_backward: true
    layer { name: 'in' type: 'Input' top: 'cos' top: 'label' input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
    layer { name: 'loss' type: 'MarginSoftmax' bottom: 'cos' bottom: 'label' top: 'loss'
            margin_softmax_param { scale: 8 m3: 0.2 } })";
  NetParameter spec;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  const std::vector<float> cosine = {0.3f, -0.2f, 0.5f, 0.9f, 0.1f, -0.4f};
  const int label[] = {0, 2};
  double expected = 0;
  for (int i = 0; i < 2; ++i) {
    double sum = 0, own = 0;
    for (int k = 0; k < 3; ++k) {
      const double logit = 8 * (cosine[i * 3 + k] - (k == label[i] ? 0.2 : 0));
      sum += std::exp(logit);
      if (k == label[i]) own = logit;
    }
    expected += (std::log(sum) - own) / 2;
  }
  RunRanks(2, [&](Communicator& comm) {  // both ranks have the same two samples: the mean stays
    TestPlace place(comm);
    NetOptions options;
    options.phase = TRAIN, options.backward = true;
    Net net(place, spec, options);
    net.SetInput("cos", cosine);
    net.SetInput("label", {0, 2});
    EXPECT_NEAR(net.Forward(place), expected, 1e-5);
    net.Backward(place);
    double sum = 0;
    for (float g : net.BlobGrads("cos")) sum += g;
    EXPECT_NEAR(sum, 0, 1e-5);  // softmax gradients of a sample add up to 0 where the margin's slope is 1
  });
}

// Of two ranks' labels of the coming batch, some or all known, the rows that are drawn when it has come.
TEST(PartialFc, KnowsTheRowsOfTheComingIteration) {
  for (const std::string draw : {"", "draw: BLOCKS block_rows: 8"}) {
    HeadCase c;
    c.classes = 2000, c.rate = 0.1, c.head = draw, c.fuse = false;
    RunRanks(2, [&](Communicator& comm) {
      TestPlace place(comm);
      Context& ctx = place;
      NetOptions options;
      options.phase = TRAIN, options.backward = true;
      const Net net(ctx, HeadNet(c, 3), options);
      Blob x("x"), label("label");
      x.Reshape(DType::kF32, {3, c.width}), label.Reshape(DType::kI64, {3});
      PartialFc fc(*net.layer("fc"));
      fc.Reshape(ctx, x, label);
      const auto known = [&](const std::vector<int64_t>& labels) {
        const auto numbers = std::make_shared<std::atomic<Blob::HostNumbers>>();
        numbers->store(std::make_shared<const std::vector<int64_t>>(labels));
        label.set_coming_numbers(numbers);
      };
      const auto drawn_for = [&](const std::vector<int64_t>& labels) {
        Context next = ctx;
        ++next.iteration;
        label.set_host_numbers(std::make_shared<const std::vector<int64_t>>(labels));
        fc.Draw(next, label);
        return fc.row_index().ToHost<int64_t>();
      };
      const std::vector<int64_t> first = {5, 1999, 1000}, second = {7, 1500, 5};
      const std::vector<int64_t> mine = comm.rank() == 0 ? first : second;
      const std::vector<int64_t> without = fc.RowsOf(ctx, ctx.iteration + 1);
      EXPECT_EQ(fc.ComingRows(ctx, label), without) << "nobody knows any";
      known(mine);
      const std::vector<int64_t> of_all = fc.ComingRows(ctx, label);
      EXPECT_EQ(of_all, drawn_for(mine));
      EXPECT_NE(of_all, without);
      if (comm.rank() == 1) label.set_coming_numbers(nullptr);
      EXPECT_EQ(fc.ComingRows(ctx, label), drawn_for(first)) << "rank 1 does not know its own";
      if (comm.rank() == 1) known({-1, 2000, 1 << 20});
      EXPECT_EQ(fc.ComingRows(ctx, label), drawn_for(first)) << "rank 1's are no classes";
    });
  }
}

}  // namespace
}  // namespace crema
