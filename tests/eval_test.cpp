// The evaluation wing against brute force, and its lists of pairs.
#include "crema/eval.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "crema/io.hpp"
#include "eval/canvas.hpp"
#include "eval/training_log.hpp"

namespace crema {
namespace {

struct Scores {
  std::vector<double> distance;
  std::vector<uint8_t> same;
  std::vector<int64_t> fold;
};

// `step` > 0 rounds the distances to its multiples, so that there are ties.
Scores RandomScores(unsigned seed, int64_t pairs, int64_t folds, double step) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> near(1.0, 0.4), far(1.6, 0.4);
  Scores s;
  for (int64_t i = 0; i < pairs; ++i) {
    s.same.push_back(random() % 3 == 0);
    double d = std::min(4.0, std::max(0.0, s.same.back() ? near(random) : far(random)));
    s.distance.push_back(step > 0 ? std::round(d / step) * step : d);
  }
  s.fold = MakeFolds(s.same, folds);
  return s;
}

// ------------------------------------------------------------------ the oracle: the definitions, spelt out

double ShareAccepted(const Scores& s, bool same, double threshold) {
  double accepted = 0, all = 0;
  for (size_t i = 0; i < s.same.size(); ++i) {
    if ((s.same[i] != 0) != same) continue;
    all += 1;
    accepted += s.distance[i] <= threshold;
  }
  return accepted / all;
}

double ShareRight(const Scores& s, double threshold, int64_t fold, bool inside) {
  double right = 0, all = 0;
  for (size_t i = 0; i < s.same.size(); ++i) {
    if ((s.fold[i] == fold) != inside) continue;
    all += 1;
    right += (s.distance[i] < threshold) == (s.same[i] != 0);
  }
  return right / all;
}

std::vector<double> OracleAccuracies(const Scores& s, int64_t folds) {
  std::vector<double> accuracies;
  for (int64_t fold = 0; fold < folds; ++fold) {
    double best = -1, threshold = 0;
    for (int t = 0; t < 400; ++t) {
      const double right = ShareRight(s, t * 0.01, fold, false);
      if (right > best + 1e-12) best = right, threshold = t * 0.01;
    }
    accuracies.push_back(ShareRight(s, threshold, fold, true));
  }
  return accuracies;
}

double OracleAuc(const Scores& s) {
  double wins = 0, all = 0;
  for (size_t i = 0; i < s.same.size(); ++i)
    for (size_t j = 0; j < s.same.size(); ++j) {
      if (!s.same[i] || s.same[j]) continue;
      all += 1;
      wins += s.distance[i] < s.distance[j] ? 1 : s.distance[i] == s.distance[j] ? 0.5 : 0;
    }
  return wins / all;
}

double OracleTar(const Scores& s, double far) {
  double best = 0;
  for (double threshold : s.distance)
    if (ShareAccepted(s, false, threshold) <= far) best = std::max(best, ShareAccepted(s, true, threshold));
  return best;
}

TEST(Verification, AgreesWithTheDefinitions) {
  for (unsigned seed = 0; seed < 6; ++seed) {
    const Scores s = RandomScores(seed, 307, 10, seed % 2 ? 0.05 : 0);
    const Verification v = Verify(s.distance, s.same, s.fold);
    EXPECT_THAT(v.fold_accuracy, testing::Pointwise(testing::DoubleNear(1e-12), OracleAccuracies(s, 10)));
    double mean = 0, square = 0;
    for (double a : v.fold_accuracy) mean += a / 10, square += a * a / 10;
    EXPECT_NEAR(v.accuracy, mean, 1e-12);
    EXPECT_NEAR(v.deviation, std::sqrt(square - mean * mean), 1e-7);
    EXPECT_NEAR(v.auc, OracleAuc(s), 1e-12);
    for (double far : {0.01, 0.02, 0.1, 0.5, 1.0}) EXPECT_NEAR(*TarAtFar(v, far), OracleTar(s, far), 1e-12);
    for (const RocPoint& point : v.roc) {
      EXPECT_NEAR(point.far, ShareAccepted(s, false, point.threshold), 1e-12);
      EXPECT_NEAR(point.tar, ShareAccepted(s, true, point.threshold), 1e-12);
    }
    EXPECT_EQ(v.roc.back().far, 1);
    EXPECT_EQ(v.roc.back().tar, 1);
  }
}

TEST(Verification, EqualErrorRateIsWhereTheCurvesCross) {
  // Of 4 same pairs 1 is as far as the different ones, of 4 different pairs 1 as close as the same ones.
  const Verification v =
      Verify({0.1, 0.2, 0.3, 1.5, 0.25, 1.1, 1.2, 1.3}, {1, 1, 1, 1, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_DOUBLE_EQ(v.eer, 0.25);
  // One step from (0, 0) to (1, 1): chance.
  const Verification tie = Verify({1, 1}, {1, 0}, {0, 0});
  EXPECT_DOUBLE_EQ(tie.eer, 0.5);
  EXPECT_DOUBLE_EQ(tie.auc, 0.5);
  const Verification perfect = Verify({0.5, 1.5}, {1, 0}, {0, 0});
  EXPECT_DOUBLE_EQ(perfect.eer, 0);
  EXPECT_DOUBLE_EQ(perfect.auc, 1);
  EXPECT_DOUBLE_EQ(perfect.accuracy, 1);
}

TEST(Verification, ThresholdsAreStrictAndTheFirstBestCounts) {
  // "d < t": 0.3 is accepted from 0.31 on, and no threshold accepts 4.
  EXPECT_NEAR(Verify({0.3, 4}, {1, 0}, {0, 0}).threshold, 0.31, 1e-12);
  EXPECT_DOUBLE_EQ(Verify({4, 4}, {1, 0}, {0, 0}).accuracy, 0.5);
}

TEST(Verification, TooFewPairsGiveNoRate) {
  const Scores s = RandomScores(1, 307, 10, 0);
  const Verification v = Verify(s.distance, s.same, s.fold);
  ASSERT_LT(v.different_pairs, 1000);
  EXPECT_FALSE(TarAtFar(v, 1e-3).has_value());
  EXPECT_EQ(PairsForFar(1e-3), 1000);
  EXPECT_EQ(PairsForFar(static_cast<double>(1e-3f)), 1000);
  EXPECT_EQ(PairsForFar(0.3), 4);
  EXPECT_THROW(PairsForFar(0), Error);
}

TEST(Verification, RefusesWhatItCannotMeasure) {
  EXPECT_THROW(Verify({1, 1}, {1, 1}, {0, 0}), Error);
  EXPECT_THROW(Verify({1, NAN}, {1, 0}, {0, 0}), Error);
  EXPECT_THROW(Verify({1, 1}, {1, 0}, {0, 2}), Error);
  EXPECT_THROW(Verify({}, {}, {}), Error);
  EXPECT_EQ(VerifyAccuracy({1, 1}, {1, 1}, {0, 0}).accuracy, 1);
}

TEST(Folds, AreContiguousInEachKindAndNeverEmpty) {
  // LFW's order: the folds of the file.
  std::vector<uint8_t> lfw;
  std::vector<int64_t> expected;
  for (int64_t fold = 0; fold < 5; ++fold)
    for (int64_t i = 0; i < 60; ++i) lfw.push_back(i < 30), expected.push_back(fold);
  EXPECT_EQ(MakeFolds(lfw, 5), expected);
  for (size_t same = 1; same < 12; ++same)
    for (size_t different = 0; different < 12; ++different)
      for (size_t folds = 1; folds <= same + different; ++folds) {
        std::vector<uint8_t> flags(same, 1);
        flags.resize(same + different, 0);
        std::vector<int64_t> size(folds, 0);
        for (int64_t fold : MakeFolds(flags, static_cast<int64_t>(folds)))
          ++size.at(static_cast<size_t>(fold));
        EXPECT_THAT(size, testing::Each(testing::Gt(0))) << same << " " << different << " " << folds;
      }
  EXPECT_THROW(MakeFolds({1, 0}, 3), Error);
  EXPECT_THROW(MakeFolds({1, 0}, 0), Error);
}

TEST(Embeddings, DistancesOfUnitRows) {
  std::vector<float> rows = {3, 0, 0, 2, -5, 0, 0, 0};
  NormalizeRows(4, 2, rows.data());
  EXPECT_THAT(rows, testing::ElementsAre(1, 0, 0, 1, -1, 0, 0, 0));
  EXPECT_THAT(PairDistances(rows, 2, {{0, 0}, {0, 1}, {0, 2}, {0, 3}}), testing::ElementsAre(0, 2, 4, 1));
  std::vector<float> bad = {1, INFINITY};
  EXPECT_THROW(NormalizeRows(1, 2, bad.data()), Error);
}

// ---------------------------------------------------------------------------------------------- pairs lists

class PairListTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "crema_pairs_" + std::to_string(getpid());
    MakeDirectories(root_ + "/Ann");
    MakeDirectories(root_ + "/Bo");
    for (const char* image : {"/Ann/Ann_0001.jpg", "/Ann/Ann_0002.png", "/Bo/Bo_0001.jpeg", "/a b.png"})
      WriteFile(root_ + image, "not looked at");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  PairList Read(const std::string& text) {
    WriteFile(root_ + "/list.txt", text);
    return ReadPairList(root_ + "/list.txt", root_);
  }
  std::string Complaint(const std::string& text) {
    try {
      Read(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  }

  std::string root_;
};

TEST_F(PairListTest, ReadsLfwsForm) {
  const PairList list = Read("2\t1\r\nAnn\t1\t2\r\nAnn\t1\tBo\t1\r\nAnn\t2\t1\r\nBo\t1\tAnn\t2\r\n");
  EXPECT_EQ(list.folds, 2);
  EXPECT_THAT(list.images, testing::ElementsAre(root_ + "/Ann/Ann_0001.jpg", root_ + "/Ann/Ann_0002.png",
                                                root_ + "/Bo/Bo_0001.jpeg"));
  ASSERT_EQ(list.pairs.size(), 4u);
  EXPECT_TRUE(list.pairs[2].same);
  EXPECT_EQ(list.pairs[2].first, 1);
  EXPECT_EQ(list.pairs[2].second, 0);
  EXPECT_EQ(list.pairs[2].fold, 1);
  EXPECT_FALSE(list.pairs[3].same);
  EXPECT_EQ(list.pairs[3].first, 2);
  const PairList single = Read("1\nAnn 1 2\nAnn 1 Bo 1\n");
  EXPECT_EQ(single.folds, 0);
  EXPECT_EQ(single.pairs[0].fold, -1);
}

TEST_F(PairListTest, ReadsPlainLines) {
  const PairList list = Read("Ann/Ann_0001.jpg Bo/Bo_0001.jpeg 0\n\na b.png\tAnn/Ann_0001.jpg\t1\n");
  EXPECT_EQ(list.folds, 0);
  ASSERT_EQ(list.pairs.size(), 2u);
  EXPECT_FALSE(list.pairs[0].same);
  EXPECT_TRUE(list.pairs[1].same);
  EXPECT_EQ(list.images[2], root_ + "/a b.png");
}

TEST_F(PairListTest, NamesTheLineThatIsWrong) {
  using testing::HasSubstr;
  EXPECT_THAT(Complaint("1 1\nAnn 1 2\nAnn 1 Cy 1\n"),
              HasSubstr("line 3 of " + root_ + "/list.txt: there is no"));
  EXPECT_THAT(Complaint("1 1\nAnn 1 2\nAnn 1 2\n"), HasSubstr("line 3 of "));
  EXPECT_THAT(Complaint("1 1\nAnn one 2\n"), HasSubstr("found 'one' where the number"));
  EXPECT_THAT(Complaint("1 1\nAnn 1\n"), HasSubstr("found 2 columns"));
  EXPECT_THAT(Complaint("2 1\nAnn 1 2\nAnn 1 Bo 1\n"), HasSubstr("has 2 pairs, but its header promises 4"));
  EXPECT_THAT(Complaint("0 1\n"), HasSubstr("must be positive"));
  EXPECT_THAT(Complaint("Ann/Ann_0001.jpg Bo/Bo_0001.jpeg 2\n"), HasSubstr("line 1 of "));
  EXPECT_THAT(Complaint("Ann/Ann_0001.jpg x.jpg 1\n"), HasSubstr("there is no image " + root_ + "/x.jpg"));
  EXPECT_THAT(Complaint(""), HasSubstr("has no pairs"));
  EXPECT_THROW(ReadPairList(root_ + "/absent.txt", root_), Error);
}

// ---------------------------------------------------------------------------------------- logs and pictures

TEST_F(PairListTest, TrainingLogGivesCurvesAndForgetsWhatAResumedRunRepeats) {
  const std::string path = root_ + "/train.log";
  WriteFile(path, R"(I1123 20:37:20.996414 31140 solver.cpp:289] Solving tiny
I1123 20:37:20.998289 31140 solver.cpp:347] Iteration 0, Testing net (#0)
I1123 20:37:21.156383 31140 solver.cpp:414]     Test net output #0: accuracy = 0.01
I1123 20:37:21.156583 31140 solver.cpp:414]     Test net output #1: loss = 82.4308 (* 1 = 82.4308 loss)
I1123 20:37:21.398862 31140 solver.cpp:239] Iteration 0, loss = 8.5
I1123 20:37:21.398953 31140 solver.cpp:258]     Train net output #0: loss = 8.5 (* 1 = 8.5 loss)
I1123 20:37:21.398969 31140 sgd_solver.cpp:112] Iteration 0, lr = 0.05
I1123 20:37:21.398862 31140 solver.cpp:239] Iteration 20 (86.9565 iter/s, 0.23s/20 iters), loss = 2.25
I1123 20:37:21.398862 31140 solver.cpp:239] Iteration 40 (86.9565 iter/s, 0.23s/20 iters), loss = 2.125
I1123 20:37:21.398862 31140 solver.cpp:239] Iteration 20 (43 iter/s, 0.5s/20 iters), loss = 2.5
I1123 20:37:21.156383 31140 solver.cpp:347] Iteration 40, Testing net (#0)
I1123 20:37:21.156383 31140 solver.cpp:414]     Test net output #0: accuracy = 0.5
)");
  const TrainingLog log = ReadTrainingLog(path);
  EXPECT_THAT(log.loss.iteration, testing::ElementsAre(0, 20));
  EXPECT_THAT(log.loss.value, testing::ElementsAre(8.5, 2.5));
  EXPECT_THAT(log.rate.value, testing::ElementsAre(0.05));
  EXPECT_EQ(log.iterations_per_second, 43);
  ASSERT_EQ(log.test_outputs.size(), 2u);
  EXPECT_EQ(log.test_outputs[0].label, "accuracy");
  EXPECT_THAT(log.test_outputs[0].iteration, testing::ElementsAre(0, 40));
  EXPECT_THAT(log.test_outputs[0].value, testing::ElementsAre(0.01, 0.5));
  EXPECT_THAT(log.test_outputs[1].value, testing::ElementsAre(82.4308));
  WriteFile(path, "nothing of the kind\n");
  EXPECT_THROW(ReadTrainingLog(path), Error);
}

TEST(Pictures, TicksAreRound) {
  EXPECT_THAT(Ticks({"", 0, 1, false}), testing::Pointwise(testing::DoubleNear(1e-12),
                                                           std::vector<double>{0, 0.2, 0.4, 0.6, 0.8, 1.0}));
  EXPECT_THAT(Ticks({"", 1e-3, 1, true}),
              testing::Pointwise(testing::DoubleNear(1e-12), std::vector<double>{1e-3, 1e-2, 1e-1, 1.0}));
}

TEST(Pictures, AreDrawnOfExtremes) {
  const std::string png = "\x89PNG";
  // Two pairs; perfect, and all equal.
  EXPECT_EQ(DrawRoc(Verify({0.5, 1.5}, {1, 0}, {0, 0})).substr(0, 4), png);
  EXPECT_EQ(DrawRoc(Verify({0, 0}, {1, 0}, {0, 0})).substr(0, 4), png);
  EXPECT_EQ(DrawScores({0, 0}, {1, 0}, 0).substr(0, 4), png);
  EXPECT_EQ(DrawScores({4, 4}, {1, 1}, 3.99).substr(0, 4), png);
  EXPECT_EQ(DrawTraining("t", "y", {{"a", {0}, {NAN}}, {"b", {5}, {0}}}, true, true).substr(0, 4), png);
  EXPECT_THROW(DrawTraining("t", "y", {{"a", {0}, {NAN}}}, false, true), Error);
  EXPECT_EQ(DrawPairs("none", {{"empty", {}}}).substr(0, 4), png);
  EXPECT_THROW(DrawPairs("bad", {{"one", {{"not an image", "", 1, true}}}}), Error);
}

}  // namespace
}  // namespace crema
