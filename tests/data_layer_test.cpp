// The layers that read data sets, in nets, on one rank and several.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <google/protobuf/text_format.h>

#include "crema/net.hpp"
#include "data_fixtures.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

using testing::HasSubstr;

LayerParameter LayerOf(const std::string& type, const std::string& fields) {
  LayerParameter layer;
  if (!google::protobuf::TextFormat::ParseFromString(fields, &layer)) Fail("bad fields: ", fields);
  layer.set_name("faces");
  layer.set_type(type);
  layer.add_top("data");
  layer.add_top("label");
  return layer;
}

std::unique_ptr<Net> NetOf(const Context& ctx, const LayerParameter& layer, Phase phase = TRAIN) {
  NetParameter spec;
  *spec.add_layer() = layer;
  NetOptions options;
  options.phase = phase;
  return std::make_unique<Net>(ctx, spec, options);
}

std::vector<float> LabelsAt(Net& net, Context& ctx, int64_t pass) {
  ctx.pass = pass;
  net.Forward(ctx);
  return net.BlobValues("label");
}

// The Error of a net with this layer, built and run.
std::string NetError(const LayerParameter& layer) {
  return ErrorOf([&] {
    TestPlace work;
    NetOf(work, layer)->Forward(work);
  });
}

class DataLayers : public testing::Test {
 protected:
  void SetUp() override { WriteNumbered(Database(), 10); }
  std::string Database() const { return folder_ / "db"; }
  LayerParameter Layer(const std::string& fields, const std::string& transform = "") const {
    return LayerOf("Data", "data_param { source: '" + Database() + "' " + fields + " } transform_param { " +
                               transform + " }");
  }
  DataFolder folder_;
};

TEST_F(DataLayers, ReadInOrderFromRecordZeroOn) {
  for (Phase phase : {TRAIN, TEST}) {
    TestPlace work;
    const auto net = NetOf(work, Layer("batch_size: 4 backend: LMDB"), phase);
    EXPECT_EQ(net->blob("data").shape(), (Shape{4, 3, 4, 5}));
    EXPECT_EQ(net->blob("data").block(), work.context().device->ChannelBlock(DType::kF32, 3));
    EXPECT_EQ(net->blob("label").dtype(), DType::kI64);
    EXPECT_EQ(LabelsAt(*net, work, 0), (std::vector<float>{0, 1, 2, 3}));
    EXPECT_EQ(LabelsAt(*net, work, 1), (std::vector<float>{4, 5, 6, 7}));
    EXPECT_EQ(LabelsAt(*net, work, 2), (std::vector<float>{8, 9, 0, 1}));
    EXPECT_EQ(LabelsAt(*net, work, 0), (std::vector<float>{0, 1, 2, 3}));  // the next test
    EXPECT_EQ(LabelsAt(*net, work, 1000000), (std::vector<float>{0, 1, 2, 3}));
  }
}

TEST_F(DataLayers, GiveValuesInCaffesOrderInAnyPrecision) {
  for (DType real : {DType::kF32, DType::kF64}) {
    TestPlace work;
    work.context().real = real;
    const auto net = NetOf(work, Layer("batch_size: 2 backend: LMDB", "scale: 0.5"));
    net->Forward(work);
    EXPECT_EQ(net->blob("data").dtype(), real);
    const std::vector<float> values = net->BlobValues("data");
    for (size_t n = 0; n < 2; ++n)
      for (size_t i = 0; i < 60; ++i)
        ASSERT_EQ(values[n * 60 + i], static_cast<float>((7 * n + i) % 251) * 0.5f);
  }
}

TEST_F(DataLayers, ReadOnSeveralRanksWhatOneReads) {
  const std::string fields = "backend: LMDB shuffle: true rand_skip: 50 batch_size: ";
  const std::string transform = "mirror: true crop_size: 3 random_erase: 0.5";
  std::vector<float> images[5], labels[5];
  {
    TestPlace work;
    work.context().seed = 9;
    const auto net = NetOf(work, Layer(fields + "6", transform));
    for (int64_t pass = 0; pass < 5; ++pass) {
      labels[pass] = LabelsAt(*net, work, pass);
      images[pass] = net->BlobValues("data");
    }
  }
  RunRanks(3, [&](Communicator& comm) {
    TestPlace work(comm);
    work.context().seed = 9;
    const size_t begin = comm.rank() == 0 ? 0 : comm.rank() == 1 ? 3 : 4;  // batches of 3, 1 and 2
    const size_t batch = comm.rank() == 0 ? 3 : comm.rank() == 1 ? 1 : 2;
    const auto net = NetOf(work, Layer(fields + std::to_string(batch), transform));
    for (int64_t pass = 0; pass < 5; ++pass) {
      const std::vector<float> found = LabelsAt(*net, work, pass), found_images = net->BlobValues("data");
      const std::vector<float>&all = labels[pass], &all_images = images[pass];
      for (size_t i = 0; i < batch; ++i) {
        EXPECT_EQ(found[i], all[begin + i]);
        for (size_t k = 0; k < 27; ++k) EXPECT_EQ(found_images[i * 27 + k], all_images[(begin + i) * 27 + k]);
      }
    }
  });
}

TEST_F(DataLayers, SkipAsManyRecordsAsTheSeedSays) {
  std::set<float> first;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    TestPlace work;
    work.context().seed = seed;
    const std::vector<float> labels =
        LabelsAt(*NetOf(work, Layer("batch_size: 2 backend: LMDB rand_skip: 4")), work, 0);
    EXPECT_EQ(labels[1], labels[0] + 1);
    first.insert(labels[0]);
  }
  EXPECT_EQ(first, (std::set<float>{0, 1, 2, 3}));
}

TEST_F(DataLayers, TakeTheOlderPlaceOfTransformations) {
  const auto values = [&](const LayerParameter& layer) {
    TestPlace work;
    const auto net = NetOf(work, layer);
    net->Forward(work);
    return net->BlobValues("data");
  };
  EXPECT_EQ(values(Layer("batch_size: 3 backend: LMDB scale: 0.25 crop_size: 2 mirror: true")),
            values(Layer("batch_size: 3 backend: LMDB", "scale: 0.25 crop_size: 2 mirror: true")));
  EXPECT_EQ(values(Layer("batch_size: 3 backend: LMDB scale: 9 crop_size: 3", "scale: 0.25 crop_size: 2")),
            values(Layer("batch_size: 3 backend: LMDB", "scale: 0.25 crop_size: 2")));
}

TEST_F(DataLayers, SayWhatIsWrong) {
  const std::string name = "layer 'faces' (Data): ";
  EXPECT_THAT(NetError(Layer("backend: LMDB")), HasSubstr(name + "it has no batch_size"));
  EXPECT_THAT(NetError(LayerOf("Data", "data_param { batch_size: 1 }")), HasSubstr("has no source"));
  EXPECT_EQ(NetError(Layer("batch_size: 1")), "");  // LEVELDB is the default, but it is an LMDB
  const auto at = [](const std::string& path, const std::string& fields) {
    return LayerOf("Data", "data_param { batch_size: 1 source: '" + path + "' " + fields + " }");
  };
  EXPECT_EQ(NetError(at("/absent", "backend: LMDB")),
            name + "there is no database /absent; expected an LMDB folder");
  EXPECT_THAT(NetError(at("/absent", "")), HasSubstr("there is no database"));
  MakeDirectories(folder_ / "level");
  WriteFile(folder_ / "level/CURRENT", "MANIFEST-000001\n");
  EXPECT_THAT(NetError(at(folder_ / "level", "")), HasSubstr("is a LevelDB, which is not read here"));
  EXPECT_THAT(NetError(Layer("batch_size: 1", "crop_size: 9")),
              HasSubstr(name + "transform_param has crop_size"));
  EXPECT_THAT(NetError(Layer("batch_size: 1", "force_color: true force_gray: true")), HasSubstr("both set"));
  WriteDatabase(folder_ / "bad", {RawDatum(0), Datum()});
  EXPECT_THAT(NetError(LayerOf("Data", "data_param { batch_size: 2 source: '" + folder_ / "bad" + "' }")),
              HasSubstr(name + "record '00000001_image' of "));
  EXPECT_EQ(NetError(LayerOf("Data", "data_param { batch_size: 2 skip_bad_records: true source: '" +
                                         folder_ / "bad" + "' }")),
            "");
}

TEST_F(DataLayers, ForceColourOrGrey) {
  WriteDatabase(folder_ / "mixed", {EncodedDatum(Picture(4, 5), 0, "png"),
                                    EncodedDatum(cv::Mat(4, 5, CV_8U, cv::Scalar(7)), 1, "png")});
  const auto channels = [&](const std::string& fields, const std::string& transform) {
    TestPlace work;
    const auto net =
        NetOf(work, LayerOf("Data", "data_param { batch_size: 2 source: '" + folder_ / "mixed" + "' " +
                                        fields + " } transform_param { " + transform + " }"));
    net->Forward(work);
    return net->blob("data").channels();
  };
  EXPECT_EQ(channels("", "force_color: true"), 3);
  EXPECT_EQ(channels("force_encoded_color: true", ""), 3);
  EXPECT_EQ(channels("", "force_gray: true"), 1);
  EXPECT_THAT(ErrorOf([&] { channels("", ""); }), HasSubstr("is 1x4x5 where 3x4x5"));
}

TEST_F(DataLayers, ReadListsOfImages) {
  std::string list;
  for (int i = 0; i < 5; ++i) {
    cv::imwrite(folder_ / (std::to_string(i) + ".png"), Picture(6 + i, 8, 10 * i));
    list += std::to_string(i) + ".png " + std::to_string(i) + "\n";
  }
  WriteFile(folder_ / "list", list);
  const auto layer = [&](const std::string& fields) {
    return LayerOf("ImageData", "image_data_param { source: '" + folder_ / "list" + "' root_folder: '" +
                                    folder_ / "' " + fields + " }");
  };
  {
    TestPlace work;
    const auto net =
        NetOf(work, layer("new_height: 7 new_width: 7 batch_size: 5 shuffle: true is_color: false"));
    EXPECT_EQ(net->blob("data").shape(), (Shape{5, 1, 7, 7}));
    std::vector<float> first = LabelsAt(*net, work, 0), second = LabelsAt(*net, work, 1);
    EXPECT_NE(first, second);
    for (auto* labels : {&first, &second}) std::sort(labels->begin(), labels->end());
    EXPECT_EQ(first, (std::vector<float>{0, 1, 2, 3, 4}));
    EXPECT_EQ(second, first);
  }
  EXPECT_THAT(NetError(layer("batch_size: 2")), HasSubstr("layer 'faces' (ImageData): image "));
  EXPECT_THAT(NetError(layer("batch_size: 2")), HasSubstr("in line 2 of "));
  EXPECT_THAT(NetError(layer("new_height: 7")), HasSubstr("both or neither"));
  EXPECT_EQ(NetError(layer("")), "");  // batches of one
  std::filesystem::remove(folder_ / "0.png");
  EXPECT_THAT(NetError(layer("new_height: 7 new_width: 7 batch_size: 4")),
              HasSubstr("cannot be read or decoded"));
  EXPECT_EQ(NetError(layer("new_height: 7 new_width: 7 batch_size: 4 skip_bad_records: true")), "");
}

}  // namespace
}  // namespace crema
