// HDF5: the files, the layers that read and write them, weights and snapshots. And MemoryData, which is fed
// by hand.
#include "base/hdf5_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "crema/caffe_files.hpp"
#include "crema/memory_data.hpp"
#include "net/hdf5_files.hpp"
#include "solver/snapshot.hpp"
#include "solver_fixtures.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Hdf5File, GivesBackWhatWasWritten) {
  TempFolder folder;
  const std::string path = folder / "a.h5";
  const std::vector<float> floats = {1, 2, 3, 4, 5, 6};
  const std::vector<double> doubles = {0.1, -2.5e100};
  {
    Hdf5File file(path, Hdf5File::Mode::kCreate);
    file.Write("data/conv1/dw/0", {2, 3}, floats.data());
    file.Write("doubles", {2}, doubles.data());
    file.WriteInteger("iter", 42);
    file.WriteText("name", "run_iter_42.caffemodel.h5");
    file.Append("grows", {1, 2}, floats.data());
    file.Append("grows", {2, 2}, floats.data() + 2);
    EXPECT_THAT(MessageOf([&] { file.Append("grows", {1, 3}, floats.data()); }), HasSubstr("other sizes"));
  }
  const Hdf5File file(path, Hdf5File::Mode::kRead);
  EXPECT_THAT(file.Names("/"), ElementsAre("data", "doubles", "grows", "iter", "name"));
  EXPECT_TRUE(file.IsGroup("data/conv1"));
  EXPECT_FALSE(file.IsGroup("data/conv1/dw/0"));
  EXPECT_FALSE(file.Has("data/conv2/0"));
  EXPECT_THAT(file.Shape("data/conv1/dw/0"), ElementsAre(2, 3));
  EXPECT_EQ(file.Floats("data/conv1/dw/0"), floats);
  EXPECT_THAT(file.Floats("data/conv1/dw/0", 1, 1), ElementsAre(4, 5, 6));
  EXPECT_EQ(file.Doubles("doubles"), doubles);
  EXPECT_TRUE(file.IsDouble("doubles"));
  EXPECT_THAT(file.Doubles("iter"), ElementsAre(42));
  EXPECT_EQ(file.Text("name"), "run_iter_42.caffemodel.h5");
  EXPECT_THAT(file.Shape("grows"), ElementsAre(3, 2));
  EXPECT_EQ(file.Floats("grows"), floats);
}

TEST(Hdf5File, DamagedFilesAreNamed) {
  TempFolder folder;
  const std::string path = folder / "a.h5", absent = folder / "absent.h5";
  {
    Hdf5File file(path, Hdf5File::Mode::kCreate);
    const std::vector<float> many(1000, 1);
    file.Write("x", {1000}, many.data());
    file.WriteText("text", "no number");
  }
  const auto read = [&](const std::string& name) {
    return MessageOf([&] { Hdf5File(path, Hdf5File::Mode::kRead).Floats(name); });
  };
  EXPECT_THAT(read("y"), HasSubstr("'" + path + "' has no dataset 'y'"));
  EXPECT_THAT(read("text"), HasSubstr("holds no numbers"));
  EXPECT_THAT(MessageOf([&] { Hdf5File(absent, Hdf5File::Mode::kRead); }), HasSubstr("No such file"));
  EXPECT_THAT(MessageOf([&] { Hdf5File(folder / "no/a.h5", Hdf5File::Mode::kCreate); }),
              HasSubstr("cannot create"));
  const std::string bytes = ReadFile(path);
  for (const size_t size : {size_t{0}, size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    WriteFile(path, bytes.substr(0, size));
    EXPECT_THAT(read("x"), HasSubstr(path)) << size;
  }
}

// Files of 5, 0 and 4 rows; row r of all is (r, r + 0.5), its label 100 + r.
class Hdf5Data : public testing::Test {
 protected:
  void SetUp() override {
    std::string list;
    float row = 0;
    for (const int64_t rows : {5, 0, 4}) {
      const std::string path = folder_ / Concat("rows", rows, ".h5");
      list += path + "\n";
      std::vector<float> data, label;
      for (int64_t i = 0; i < rows; ++i, ++row) {
        data.insert(data.end(), {row, row + 0.5f});
        label.push_back(100 + row);
      }
      Hdf5File file(path, Hdf5File::Mode::kCreate);
      file.Write("data", {rows, 2}, data.data());
      file.Write("label", {rows}, label.data());
    }
    WriteFile(folder_ / "list.txt", "\xEF\xBB\xBF" + list);  // as some editors write it
  }
  NetParameter Spec(int64_t batch, const std::string& options = "", const std::string& more = "") const {
    NetParameter spec;
    ParseText(
        Concat("layer { name: 'rows' type: 'HDF5Data' top: 'data' top: 'label' hdf5_data_param { source: '",
               folder_ / "list.txt", "' batch_size: ", batch, " ", options, " } } ", more),
        "test", &spec);
    return spec;
  }
  static std::vector<float> LabelsOf(const Context& ctx, const NetParameter& spec, int64_t passes) {
    Context own = ctx;
    Net net(own, spec, {.phase = TRAIN});
    std::vector<float> labels;
    for (own.pass = 0; own.pass < passes; ++own.pass) {
      net.Forward(own);
      const std::vector<float> data = net.BlobValues("data"), label = net.BlobValues("label");
      for (size_t i = 0; i < label.size(); ++i) {
        EXPECT_EQ(data[2 * i], label[i] - 100);
        EXPECT_EQ(data[2 * i + 1], label[i] - 99.5f);
      }
      labels.insert(labels.end(), label.begin(), label.end());
    }
    return labels;
  }
  TempFolder folder_;
};

TEST_F(Hdf5Data, InOrder) {
  TestPlace work;
  EXPECT_THAT(LabelsOf(work, Spec(4), 3),
              ElementsAre(100, 101, 102, 103, 104, 105, 106, 107, 108, 100, 101, 102));
}

TEST_F(Hdf5Data, ShuffledEachRowOnceInAnEpoch) {
  TestPlace work;
  std::vector<float> labels = LabelsOf(work, Spec(3, "shuffle: true"), 6);
  ASSERT_EQ(labels.size(), 18);
  EXPECT_NE(std::vector<float>(labels.begin(), labels.begin() + 9),
            std::vector<float>(labels.begin() + 9, labels.end()));
  for (const auto begin : {labels.begin(), labels.begin() + 9}) {
    std::sort(begin, begin + 9);
    for (int64_t i = 0; i < 9; ++i) EXPECT_EQ(*(begin + i), 100 + static_cast<float>(i));
  }
}

// Pass t of 2 ranks with 3 samples each is pass t of one rank with 6.
TEST_F(Hdf5Data, RanksShareTheRows) {
  TestPlace work;
  const std::vector<float> wanted = LabelsOf(work, Spec(6, "shuffle: true"), 4);
  RunRanks(2, [&](Communicator& comm) {
    TestPlace place(comm);
    const std::vector<float> found = LabelsOf(place, Spec(3, "shuffle: true"), 4);
    for (size_t i = 0; i < found.size(); ++i)
      EXPECT_EQ(found[i], wanted[i / 3 * 6 + static_cast<size_t>(comm.rank()) * 3 + i % 3]);
  });
}

TEST_F(Hdf5Data, WhatDoesNotFit) {
  TestPlace work;
  const auto error = [&] { return MessageOf([&] { LabelsOf(work, Spec(4), 1); }); };
  {
    Hdf5File file(folder_ / "rows4.h5", Hdf5File::Mode::kCreate);
    const std::vector<float> values(12);
    file.Write("data", {4, 3}, values.data());
    file.Write("label", {4}, values.data());
  }
  EXPECT_THAT(error(), HasSubstr("rows of shape 3 where 2"));
  Hdf5File(folder_ / "rows4.h5", Hdf5File::Mode::kCreate);
  EXPECT_THAT(error(), HasSubstr("has no dataset 'data'"));
  WriteFile(folder_ / "list.txt", "\n");
  EXPECT_THAT(error(), HasSubstr("names no HDF5 file with rows"));
}

TEST_F(Hdf5Data, IntoAnotherFile) {
  for (const int ranks : {1, 3}) {
    const std::string out = folder_ / Concat("out", ranks, ".h5");
    RunRanks(ranks, [&](Communicator& comm) {
      TestPlace work(comm);
      LabelsOf(
          work,
          Spec(6 / ranks, "",
               "layer { name: 'out' type: 'HDF5Output' bottom: 'data' bottom: 'label' hdf5_output_param { "
               "file_name: '" +
                   out + "' } }"),
          2);
    });
    const Hdf5File file(out, Hdf5File::Mode::kRead);
    EXPECT_THAT(file.Shape("data"), ElementsAre(12, 2));
    EXPECT_THAT(file.Floats("label"),
                ElementsAre(100, 101, 102, 103, 104, 105, 106, 107, 108, 100, 101, 102));
  }
}

// The same run with snapshots in HDF5 in between and without; names and groups are those of Caffe's
// solver.cpp.
TEST(Hdf5Snapshot, ResumesBitForBit) {
  TempFolder folder;
  const auto train = [&](const std::string& format, int64_t iterations, const std::string& from) {
    SolverParameter spec;
    ParseText(
        "base_lr: 0.05 lr_policy: 'fixed' momentum: 0.9 max_iter: 100 random_seed: 3 snapshot_format: " +
            format + " snapshot_prefix: '" + folder / "run" + "'",
        "test", &spec);
    ParseText(RecogniserNet(kGlobalBatch), "test net", spec.mutable_net_param());
    TestPlace work;
    SolverOptions options;
    options.snapshot = from;
    Solver solver(work, spec, options);
    Train(&solver, *work.context().comm, iterations - solver.iteration());
    return solver.Snapshot();
  };
  SolverState state;
  ReadBinary(train("BINARYPROTO", 8, ""), &state);
  const std::string wanted = ReadFile(state.learned_net());
  const std::string half = train("HDF5", 4, "");
  EXPECT_EQ(half, folder / "run_iter_4.solverstate.h5");
  EXPECT_EQ(PathsOfSnapshot(folder / "run", 4, true).model, folder / "run_iter_4.caffemodel.h5");
  {
    const Hdf5File model(folder / "run_iter_4.caffemodel.h5", Hdf5File::Mode::kRead);
    EXPECT_THAT(model.Names("data"), ElementsAre("fc1", "prelu"));
    EXPECT_THAT(model.Names("data/fc1"), ElementsAre("0", "1"));
    const Hdf5File history(half, Hdf5File::Mode::kRead);
    EXPECT_THAT(history.Names("/"), ElementsAre("current_step", "history", "iter", "learned_net"));
    EXPECT_THAT(history.Names("history"), ElementsAre("0", "1", "2"));
  }
  train("BINARYPROTO", 8, half);
  EXPECT_EQ(ReadFile(state.learned_net()), wanted);

  std::filesystem::remove(folder / "run_iter_8.solverstate");
  EXPECT_EQ(train("HDF5", 5, "latest"), folder / "run_iter_5.solverstate.h5");
  std::filesystem::resize_file(half, std::filesystem::file_size(half) / 2);
  EXPECT_THAT(MessageOf([&] { train("HDF5", 8, half); }), HasSubstr(half));
}

// --weights=FILE.h5: layers in groups in groups, as names with slashes make them.
TEST(Hdf5Weights, LoadIntoANet) {
  TempFolder folder;
  NetParameter spec;
  ParseText(
      "layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 } } } "
      "layer { name: 'a/fc' type: 'InnerProduct' bottom: 'x' top: 'y' inner_product_param { num_output: 4 "
      "weight_filler { type: 'xavier' } bias_filler { type: 'uniform' } } }",
      "test", &spec);
  TestPlace work;
  Net from(work, spec, {});
  WriteHdf5Weights(folder / "net.caffemodel.h5", from.ToProto());
  spec.mutable_layer(1)->mutable_inner_product_param()->clear_weight_filler();
  Net to(work, spec, {});
  EXPECT_THAT(to.CopyWeights(ReadWeights(folder / "net.caffemodel.h5"), "it"), testing::IsEmpty());
  for (size_t k = 0; k < 2; ++k)
    EXPECT_EQ(to.params()[k]->value.ToHost<float>(), from.params()[k]->value.ToHost<float>());
  Hdf5File(folder / "empty.h5", Hdf5File::Mode::kCreate);
  EXPECT_THAT(MessageOf([&] { ReadWeights(folder / "empty.h5"); }), HasSubstr("no group 'data'"));
}

TEST(MemoryData, GivesWhatItWasFed) {
  NetParameter spec;
  ParseText(
      "layer { name: 'data' type: 'MemoryData' top: 'data' top: 'label' memory_data_param { batch_size: 2 "
      "channels: 2 "
      "height: 1 width: 2 } transform_param { scale: 0.5 mean_value: 1 mean_value: 2 } }",
      "test", &spec);
  TestPlace work;
  Context& ctx = work;
  Net net(ctx, spec, {.phase = TEST});
  auto& feed = dynamic_cast<MemoryDataFeed&>(*net.layer("data"));
  EXPECT_THAT(MessageOf([&] { net.Forward(ctx); }), HasSubstr("has no data"));
  std::vector<Image> images(4);
  for (size_t i = 0; i < images.size(); ++i) {
    images[i].size = {2, 1, 2};
    images[i].label = static_cast<int64_t>(i);
    images[i].pixels.assign({static_cast<uint8_t>(10 * i), 1, 2, 3});  // channels last
  }
  feed.Reset(images);
  for (ctx.pass = 0; ctx.pass < 3; ++ctx.pass) {
    net.Forward(ctx);
    const float first = static_cast<float>(ctx.pass % 2 * 2);
    EXPECT_THAT(net.BlobValues("label"), ElementsAre(first, first + 1));
    EXPECT_THAT(net.BlobValues("data"), ElementsAre((10 * first - 1) / 2, 0.5f, -0.5f, 0.5f,
                                                    (10 * first + 9) / 2, 0.5f, -0.5f, 0.5f));
  }
  images.pop_back();
  EXPECT_THAT(MessageOf([&] { feed.Reset(images); }), HasSubstr("a multiple of its batch_size 2"));
  images.pop_back();
  images[0].size = {1, 2, 2};
  EXPECT_THAT(MessageOf([&] { feed.Reset(images); }), HasSubstr("1x2x2"));
}

}  // namespace
}  // namespace crema
