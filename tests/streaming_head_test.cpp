// DistPartialFC + MarginSoftmax as one layer against the two of them: loss, gradients, rows and momenta after
// 20 updates; on any number of threads and ranks, with and without kept cosines, with chunks that are
// skipped.
#ifdef _OPENMP
#include <omp.h>
#endif

#include <gtest/gtest.h>

#include "crema/fast_exp.hpp"
#include "streaming_head_checks.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

void ExpectSame(const Result& found, const Result& wanted, double tolerance) {
  ExpectNear(found.losses, wanted.losses, tolerance, "losses");
  ExpectNear(found.embedding_grad, wanted.embedding_grad, tolerance, "embedding gradient");
  ExpectNear(found.rows, wanted.rows, tolerance, "rows");
  ExpectNear(found.state, wanted.state, tolerance, "state");
}

// With a scale of 16: the rounding of a cosine alone moves a gradient by 64 * 2^-24 * (a few) at 64.
std::vector<StreamingCase> Cases() {
  StreamingCase arc, cos, all, positives, filtered, zeroed, blocks, adam, every, clipped, parts, exact;
  arc.head = "sample_rate: 0.5", arc.margin = "m2: 0.5 scale: 16";
  cos.head = "sample_rate: 0.3", cos.margin = "m3: 0.4 scale: 16";
  all.margin = "m2: 0.5 scale: 16";
  positives.head = "sample_rate: 0", positives.margin = "m3: 0.4 scale: 16";
  filtered = cos, filtered.margin += " interclass_filter_threshold: 0.3";
  zeroed = filtered, zeroed.margin += " filter: ZERO_LOGIT";
  blocks = cos, blocks.head += " draw: BLOCKS block_rows: 16";
  adam = cos, adam.solver = "type: 'AdamW' weight_decay: 0.1 momentum: 0.9 momentum2: 0.999 delta: 1e-4";
  every = cos, every.head += " update: ALL_ROWS";
  clipped = cos, clipped.solver += " clip_gradients: 0.01";
  parts = cos, parts.solver += " iter_size: 2";
  exact = arc, exact.real = DType::kF64;
  return {arc, cos, all, positives, filtered, zeroed, blocks, adam, every, clipped, parts, exact};
}

TEST(StreamingHead, EqualsThePlainPair) {
  int number = 0;
  for (const StreamingCase& c : Cases()) {
    SCOPED_TRACE(Concat("case ", number++));
    const bool exact = c.real == DType::kF64;
    ExpectSame(TrainAlone(c, true), TrainAlone(c, false), exact ? 1e-6 : 1e-5);
  }
}

TEST(StreamingHead, EqualsOneRankOnSeveral) {
  int number = 0;
  for (const StreamingCase& c : Cases()) {
    SCOPED_TRACE(Concat("case ", number++));
    const Result one = TrainAlone(c, true);
    for (int ranks : {2, 3}) {
      RunRanks(ranks, [&](Communicator& comm) {
        const Result mine = Train(comm, c, true);
        ExpectNear(mine.losses, one.losses, 2e-5, "losses");
        const Shard shard = ShardOf(c.classes, ranks, comm.rank());
        const auto begin = one.rows.begin() + shard.first * c.width;
        ExpectNear(mine.rows, {begin, begin + shard.rows * c.width}, 2e-5, "rows");
      });
    }
  }
}

TEST(StreamingHead, DoesNotDependOnThreadsOrOnWhatIsKept) {
#ifdef _OPENMP
  const int threads = omp_get_max_threads();
#endif
  StreamingCase c;  // more rows than a chunk has, on any device
  c.classes = TestsRunOnGpu() ? 8300 : 20000, c.head = TestsRunOnGpu() ? "" : "sample_rate: 0.5";
  c.margin = "m2: 0.5";
  const Result wanted = TrainAlone(c, true);
  StreamingCase recomputed = c;
  recomputed.head += " keep_logits_mb: 0";
  EXPECT_EQ(TrainAlone(recomputed, true).rows, wanted.rows);
  if (TestsRunOnGpu()) return;
#ifdef _OPENMP
  for (int other : {1, 3, 5}) {
    omp_set_num_threads(other);
    const Result found = TrainAlone(c, true);
    EXPECT_EQ(found.rows, wanted.rows) << other << " threads";
    EXPECT_EQ(found.losses, wanted.losses) << other << " threads";
    EXPECT_EQ(found.embedding_grad, wanted.embedding_grad) << other << " threads";
  }
  omp_set_num_threads(threads);
#endif
}

// Embeddings that lie by a centre, at times another than that of their label: all other classes have a
// probability near 0.
TEST(StreamingHead, SkipsChunksWithoutAGradient) {
  StreamingCase c;
  c.classes = TestsRunOnGpu() ? 2000 : 20000, c.width = 128, c.pull = 100, c.mislabelled = true,
  c.margin = "m2: 0.1 scale: 64";
  const Result streamed = TrainAlone(c, true);
  if (TestsRunOnGpu()) {
    EXPECT_EQ(streamed.times.skipped, 0);
  } else {
    EXPECT_GT(streamed.times.skipped, streamed.times.chunks / 10);
    EXPECT_LT(streamed.times.skipped, streamed.times.chunks);
  }
  const Result plain = TrainAlone(c, false);
  ExpectNear(streamed.losses, plain.losses, 1e-5, "losses");
  ExpectNear(streamed.rows, plain.rows, 1e-5, "rows");
}

// Rows in a file, of which a megabyte at a time is resident (of a GPU: in its host's memory, from which they
// are fetched ahead), against rows in memory: the same bits.
TEST(StreamingHead, DoesNotDependOnWhereRowsLie) {
  const std::string sgd = StreamingCase().solver;
  const std::string adam = "type: 'AdamW' weight_decay: 0.1 momentum: 0.9 momentum2: 0.999 delta: 1e-4";
  const std::pair<const char*, std::string> cases[] = {
      {"sample_rate: 0.3", sgd},
      {"sample_rate: 0.3 block_rows: 1", adam},
      {"", sgd},
      {"sample_rate: 0.3 update: ALL_ROWS", sgd},
      {"sample_rate: 0.3 update: ALL_ROWS", "type: 'Adam' momentum: 0.9 momentum2: 0.999 delta: 1e-4"},
      {"precision: BF16", sgd},
      {"sample_rate: 0.5 block_rows: 8 precision: BF16", sgd},
      {"sample_rate: 0.3", sgd + " clip_gradients: 1"}};
  for (const auto& [head, solver] : cases) {
    StreamingCase c;
    c.classes = TestsRunOnGpu() ? 1000 : 9000, c.width = 64, c.head = Concat("draw: BLOCKS ", head),
    c.margin = "m2: 0.5", c.solver = solver, c.catch_up_at = 10;
    const Result wanted = TrainAlone(c, true);
    c.head += TestsRunOnGpu() ? " storage: HOST" : " storage: FILE storage_dir: '/tmp' resident_mb: 1";
    for (bool fuse : {true, false}) {
      const Result found = TrainAlone(c, fuse);
      if (fuse) {
        EXPECT_EQ(found.rows, wanted.rows) << head;
        EXPECT_EQ(found.state, wanted.state) << head;
      } else {
        ExpectNear(found.rows, wanted.rows, 1e-2, head);
      }
    }
  }
}

// Rows are updated before the host has seen the loss.
TEST(StreamingHead, ALossThatIsNotFiniteChangesNoRow) {
  StreamingCase good{"sample_rate: 0.3", "scale: 16 m3: 0.3"}, bad = good;
  good.updates = 5;
  bad.updates = 6, bad.spoilt = true;
  const Result before = TrainAlone(good, true), after = TrainAlone(bad, true);
  EXPECT_TRUE(std::isnan(after.losses.back()));
  EXPECT_EQ(after.rows, before.rows);
  EXPECT_EQ(after.state, before.state);
}

TEST(StreamingHead, NamesTheFolderThatRowsCannotLieIn) {
  if (TestsRunOnGpu()) GTEST_SKIP() << "files are for CPUs";
  StreamingCase c;
  c.head = "storage: FILE storage_dir: '/no/such/folder'";
  try {
    TrainAlone(c, true);
    FAIL() << "a missing folder passed";
  } catch (const Error& error) {
    EXPECT_STREQ(
        error.what(),
        "cannot make a file for class centres in the folder '/no/such/folder': No such file or directory");
  }
}

// bfloat16 rows follow float32 rows: the rounding errors of single updates, each up to 2^-8 of a value,
// average out.
TEST(StreamingHead, BFloat16RowsFollowFloat32Rows) {
  for (const char* solver : {"momentum: 0.9 weight_decay: 5e-4", "type: 'AdamW' momentum: 0.9 delta: 1e-4"}) {
    StreamingCase c;
    c.head = "sample_rate: 0.5", c.margin = "m2: 0.5 scale: 16", c.solver = solver;
    const Result wide = TrainAlone(c, true);
    c.head += " precision: BF16";
    const Result narrow = TrainAlone(c, true);
    ExpectNear(narrow.losses, wide.losses, 2e-2, solver);
    ExpectNear(narrow.rows, wide.rows, 2e-2, solver);
    const auto sum = [](const std::vector<double>& x) {
      double s = 0;
      for (double value : x) s += value;
      return s;
    };
    EXPECT_NEAR(sum(narrow.rows), sum(wide.rows), 1e-3 * static_cast<double>(wide.rows.size()));
  }
}

TEST(BFloat16, RoundsToNearestAndStochastically) {
  EXPECT_EQ(static_cast<float>(BFloat16(1.00390625f)), 1.f);        // a tie, to even
  EXPECT_EQ(static_cast<float>(BFloat16(1.01171875f)), 1.015625f);  // a tie, to even
  EXPECT_EQ(static_cast<float>(BFloat16(-3.1415927f)), -3.140625f);
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(std::nanf("")))));
  const float x = 1 + 0.3f / 128;
  double sum = 0;
  constexpr int kDraws = 20000;
  for (uint32_t i = 0; i < kDraws; ++i) {
    const uint32_t random = RoundingBits::OfElement(77, i);
    const double y = static_cast<double>(static_cast<float>(BFloat16::RoundStochastically(x, random)));
    EXPECT_TRUE(y == 1 || y == 1 + 1.0 / 128);
    sum += y;
  }
  EXPECT_NEAR(sum / kDraws, static_cast<double>(x), 5 * std::sqrt(0.21 / kDraws) / 128);
}

TEST(StreamingHead, LeavesThePairAloneWhereOthersReadInBetween) {
  StreamingCase c;
  c.classes = 30;
  NetParameter spec = NetOf(c, 4, true);
  LayerParameter* second = spec.add_layer();
  *second = spec.layer(2);
  second->set_name("loss2"), second->set_top(0, "loss2");
  TestPlace place;
  NetOptions options;
  options.phase = TRAIN;
  EXPECT_EQ(Net(place, spec, options).steps().size(), 4u);
}

TEST(FastExp, IsExact) {
  for (double x = -86.9; x < 88; x += 0.00137) {
    const double found = static_cast<double>(FastExp(static_cast<float>(x)));
    const double wanted = std::exp(static_cast<double>(static_cast<float>(x)));
    ASSERT_NEAR(found / wanted, 1, 2.5e-7) << x;
  }
  EXPECT_EQ(FastExp(-1e30f), 0.f);
  EXPECT_EQ(FastExp(0.f), 1.f);
}

}  // namespace
}  // namespace crema
