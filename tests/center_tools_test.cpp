// Summaries, extracts and changed sets of identities of folders of class centres that are written by hand.
#include "solver/center_tools.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "crema/permutation.hpp"
#include "solver/center_files.hpp"
#include "solver_fixtures.hpp"

namespace crema {
namespace {

using testing::HasSubstr;

template <class T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Five classes of two numbers, of norms 1 to 5; class 3 points almost where class 1 does.
class Centers : public testing::Test {
 protected:
  Centers() {
    const std::vector<std::vector<float>> of_class = {{1, 0}, {0, 2}, {-3, 0}, {0.04f, 3.9998f}, {0, -5}};
    const Permutation row(17, 5);
    std::vector<float> weight(10), momentum(10);
    std::vector<int32_t> last(5);
    for (int64_t c = 0; c < 5; ++c) {
      for (int64_t d = 0; d < 2; ++d) {
        weight[static_cast<size_t>(row(c) * 2 + d)] =
            of_class[static_cast<size_t>(c)][static_cast<size_t>(d)];
        momentum[static_cast<size_t>(row(c) * 2 + d)] = static_cast<float>(c);
      }
      last[static_cast<size_t>(row(c))] = static_cast<int32_t>(c * 25);
    }
    WriteFile(old() + "/fc.0.txt",
              "rows: 5 dim: 2 quantity: \"weight\" quantity: \"momentum\" assignment: 17 last_drawn: true");
    WriteFile(old() + "/fc.0.weight.f32", Bytes(weight));
    WriteFile(old() + "/fc.0.momentum.f32", Bytes(momentum));
    WriteFile(old() + "/fc.0.last_drawn.i32", Bytes(last));
  }
  std::string old() {
    const std::string path = folder_ / "old";
    MakeDirectories(path);
    return path;
  }

  TempFolder folder_;
  Workplace place_;
};

TEST_F(Centers, Summary) {
  const CentersSummary summary = SummariseCenters(place_, old(), "fc.0", 100, 1);
  EXPECT_EQ(summary.rows, 5);
  EXPECT_NEAR(summary.least_norm, 1, 1e-6);
  EXPECT_NEAR(summary.median_norm, 3, 1e-6);
  EXPECT_NEAR(summary.greatest_norm, 5, 1e-6);
  EXPECT_EQ(summary.never_drawn, 1);
  EXPECT_EQ(summary.last_iteration, 100);
  EXPECT_EQ(summary.last_drawn, (std::vector<int64_t>{0, 0, 1, 0, 1, 0, 0, 1, 0, 1}));
  ASSERT_EQ(summary.closest.size(), 1u);
  EXPECT_EQ(summary.closest[0].a, 1);
  EXPECT_EQ(summary.closest[0].b, 3);
  EXPECT_NEAR(summary.closest[0].cosine, 0.99995, 1e-5);
  EXPECT_THAT(ToText(summary), HasSubstr("  never 1\n  1 to 10: 0\n"));
  EXPECT_THAT(ToText(summary), HasSubstr("  1 and 3: cosine 0.99995"));
}

TEST_F(Centers, Extract) {
  ExtractCenters(old(), "fc.0", {4, 0}, folder_ / "two.npy");
  const std::string bytes = ReadFile(folder_ / "two.npy");
  EXPECT_EQ(bytes.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  const size_t head = static_cast<unsigned char>(bytes[8]) + 256u * static_cast<unsigned char>(bytes[9]);
  EXPECT_EQ((head + 10) % 64, 0u);
  EXPECT_THAT(bytes.substr(10, head),
              HasSubstr("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }"));
  EXPECT_EQ(Floats(bytes.substr(10 + head)), (std::vector<float>{0, -5, 1, 0}));
  EXPECT_THAT(MessageOf([&] { ExtractCenters(old(), "fc.0", {5}, folder_ / "x.npy"); }),
              HasSubstr("class 5 is not in"));
}

TEST_F(Centers, Remap) {
  WriteFile(folder_ / "map", "2\nnew\n0 1\n");
  RemapCenters(place_, old(), "fc.0", folder_ / "map", folder_ / "new");
  const CentersHeader header = ReadCentersHeader(folder_ / "new/fc.0.txt");
  EXPECT_EQ(header.rows(), 3);
  EXPECT_FALSE(header.has_assignment());
  const std::vector<float> weight = Floats(ReadFile(folder_ / "new/fc.0.weight.f32"));
  EXPECT_EQ(weight[0], -3);
  EXPECT_EQ(weight[1], 0);
  EXPECT_NEAR(std::hypot(weight[2], weight[3]), 3, 1e-5);
  EXPECT_EQ(weight[4], 0.5f);
  EXPECT_EQ(weight[5], 1);
  EXPECT_EQ(Floats(ReadFile(folder_ / "new/fc.0.momentum.f32")),
            (std::vector<float>{2, 2, 0, 0, 0.5f, 0.5f}));
  // Its checksums hold: it is read as any other.
  EXPECT_EQ(SummariseCenters(place_, folder_ / "new", "fc.0", 0, 0).rows, 3);
  EXPECT_THAT(MessageOf([&] { RemapCenters(place_, old(), "fc.0", folder_ / "map", folder_ / "new"); }),
              HasSubstr("is there already"));
}

TEST_F(Centers, MapsThatDoNotFit) {
  const auto message = [&](const std::string& text) {
    WriteFile(folder_ / "map", text);
    return MessageOf([&] { RemapCenters(place_, old(), "fc.0", folder_ / "map", folder_ / "bad"); });
  };
  EXPECT_THAT(message("0\n5\n"), HasSubstr("line 2: '5' found where old classes, 0 to 4"));
  EXPECT_THAT(message("0\n\n1\n"), HasSubstr("line 2 is empty"));
  EXPECT_THAT(message("new 3\n"), HasSubstr("line 1: 'new'"));
  EXPECT_THAT(message(""), HasSubstr("is empty"));
}

}  // namespace
}  // namespace crema
