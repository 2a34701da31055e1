// Data sets, the order of records, what is done to images, and the threads that do it ahead.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <set>
#include <thread>

#include "crema/philox.hpp"
#include "data/prefetch.hpp"
#include "data_fixtures.hpp"

namespace crema {
namespace {

using testing::HasSubstr;

// ------------------------------------------------------------------------------------------------ databases

TEST(Lmdb, ReadsRawBytesChannelsLast) {
  DataFolder folder;
  WriteNumbered(folder / "db", 40);  // more than the distance of the kept keys
  const auto data = OpenLmdb(folder / "db", Color::kAsStored);
  ASSERT_EQ(data->size(), 40);
  for (int64_t index : {0, 39, 17, 16, 15}) {
    Image image;
    data->Read(index, &image);
    EXPECT_EQ(image.label, index);
    ASSERT_EQ(image.size, (ImageSize{3, 4, 5}));
    for (int64_t c = 0; c < 3; ++c)
      for (int64_t s = 0; s < 20; ++s)
        ASSERT_EQ(image.pixels[static_cast<size_t>(s * 3 + c)], (7 * index + c * 20 + s) % 251);
  }
  EXPECT_EQ(data->Describe(17), "record '00000017_image' of " + folder / "db");
}

TEST(Lmdb, ReadsNumbersAndEncodedImages) {
  DataFolder folder;
  Datum numbers;
  numbers.set_channels(2), numbers.set_height(1), numbers.set_width(2), numbers.set_label(5);
  for (float x : {1.5f, -2.f, 3.f, 4.f}) numbers.add_float_data(x);
  const cv::Mat picture = Picture(6, 8);
  WriteDatabase(folder / "db", {numbers, EncodedDatum(picture, 6, "png")});
  const auto data = OpenLmdb(folder / "db", Color::kAsStored);
  Image image;
  data->Read(0, &image);
  EXPECT_EQ(image.numbers, (std::vector<float>{1.5f, 3.f, -2.f, 4.f}));
  EXPECT_TRUE(image.pixels.empty());
  data->Read(1, &image);
  EXPECT_TRUE(image.numbers.empty());
  ASSERT_EQ(image.size, (ImageSize{3, 6, 8}));
  EXPECT_EQ(std::memcmp(image.pixels.data(), picture.data, 3 * 6 * 8), 0);
  OpenLmdb(folder / "db", Color::kGray)->Read(1, &image);
  EXPECT_EQ(image.size, (ImageSize{1, 6, 8}));
}

TEST(Lmdb, MayBeOpenManyTimesAndOnManyThreads) {
  DataFolder folder;
  WriteNumbered(folder / "db", 100);
  const auto data = OpenLmdb(folder / "db", Color::kAsStored),
             again = OpenLmdb(folder / "db", Color::kAsStored);
  std::vector<std::thread> threads;
  std::atomic<int64_t> sum = 0;
  for (int k = 0; k < 4; ++k)
    threads.emplace_back([&, k] {
      Image image;
      for (int64_t i = k; i < 100; i += 4) (k % 2 ? data : again)->Read(i, &image), sum += image.label;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(sum, 4950);
  EXPECT_FALSE(FileExists(folder / "db/lock.mdb"));  // reading writes nothing
}

TEST(Lmdb, SaysWhatIsWrongWithAPath) {
  DataFolder folder;
  const auto error = [&](const std::string& name) {
    return ErrorOf([&] { OpenLmdb(folder / name, Color::kAsStored); });
  };
  EXPECT_THAT(error("absent"), HasSubstr("there is no database"));
  WriteFile(folder / "file", "x");
  EXPECT_THAT(error("file"), HasSubstr("is a file where an LMDB folder"));
  MakeDirectories(folder / "hollow");
  EXPECT_THAT(error("hollow"), HasSubstr("has no data.mdb"));
  WriteFile(folder / "hollow/data.mdb", "");
  EXPECT_THAT(error("hollow"), HasSubstr("is an empty file"));
  WriteFile(folder / "hollow/data.mdb", std::string(100000, 'x'));
  EXPECT_THAT(error("hollow"), HasSubstr("is not an LMDB database"));
  { LmdbWriter(folder / "none").Finish(); }
  EXPECT_THAT(error("none"), HasSubstr("has no records"));
}

TEST(Lmdb, FindsATruncatedDatabaseWhereverItIsCut) {
  DataFolder folder;
  WriteNumbered(folder / "whole", 600);
  const std::string bytes = ReadFile(folder / "whole/data.mdb");
  ASSERT_GT(bytes.size(), 40000u);
  MakeDirectories(folder / "cut");
  for (size_t size : {size_t{1}, size_t{100}, size_t{4096}, size_t{8192}, size_t{20000}, bytes.size() - 1}) {
    WriteFile(folder / "cut/data.mdb", bytes.substr(0, size));
    EXPECT_THAT(ErrorOf([&] { OpenLmdb(folder / "cut", Color::kAsStored); }), HasSubstr("is truncated"))
        << size;
  }
}

TEST(Lmdb, NamesABadRecord) {
  DataFolder folder;
  const Datum whole = EncodedDatum(Picture(30, 30), 0, "jpg");
  Datum cut = whole, none = whole, wrong = RawDatum(0);
  cut.set_data(whole.data().substr(0, whole.data().size() - 40));
  none.set_data("no image");
  wrong.set_width(7);
  WriteDatabase(folder / "db", {whole, cut, none, wrong, Datum()});
  {
    LmdbWriter writer(folder / "other");
    writer.Put("key", "\xFF\xFF\xFF");
    writer.Finish();
  }
  const auto data = OpenLmdb(folder / "db", Color::kAsStored);
  Image image;
  EXPECT_NO_THROW(data->Read(0, &image));
  for (int64_t index : {1, 2})
    EXPECT_THAT(ErrorOf([&] { data->Read(index, &image); }), HasSubstr("cannot be decoded")) << index;
  EXPECT_EQ(
      ErrorOf([&] { data->Read(3, &image); }),
      "record '00000003_image' of " + folder / "db" + " has 60 bytes where an image of 3x4x7 was expected");
  EXPECT_THROW(data->Read(4, &image), BadRecord);
  EXPECT_THAT(ErrorOf([&] { OpenLmdb(folder / "other", Color::kAsStored)->Read(0, &image); }),
              HasSubstr("is not a Datum"));
}

TEST(Lmdb, ReadsWhatCaffeWrote) {
  const std::string folder = SharedData() + "/caffe/training/data";
  if (!FileExists(folder)) GTEST_SKIP() << "shared/data is absent";
  const std::string floats = ReadFile(folder + "/data_64x3x20x20.f32");
  const std::string bytes = ReadFile(folder + "/data_u8_64x3x20x20.u8"),
                    labels = ReadFile(folder + "/label_64.i32");
  const auto float_data = OpenLmdb(folder + "/float_lmdb", Color::kAsStored);
  const auto byte_data = OpenLmdb(folder + "/uint8_lmdb", Color::kAsStored);
  ASSERT_EQ(float_data->size(), 64);
  ASSERT_EQ(byte_data->size(), 64);
  for (int64_t n = 0; n < 64; ++n) {
    Image numbers, pixels;
    float_data->Read(n, &numbers);
    byte_data->Read(n, &pixels);
    int32_t label = 0;
    std::memcpy(&label, labels.data() + 4 * n, 4);
    EXPECT_EQ(numbers.label, label);
    EXPECT_EQ(pixels.label, label);
    for (int64_t c = 0; c < 3; ++c)
      for (int64_t s = 0; s < 400; ++s) {
        const int64_t from = n * 1200 + c * 400 + s;
        float number = 0;
        std::memcpy(&number, floats.data() + 4 * from, 4);
        ASSERT_EQ(numbers.numbers[static_cast<size_t>(s * 3 + c)], number);
        ASSERT_EQ(pixels.pixels[static_cast<size_t>(s * 3 + c)],
                  static_cast<uint8_t>(bytes[static_cast<size_t>(from)]));
      }
  }
}

// -------------------------------------------------------------------------------------------------- writer

TEST(LmdbWriter, GrowsAndKeepsTheOrder) {
  DataFolder folder;
  {
    LmdbWriter writer(folder / "db");
    for (size_t i = 0; i < 3000; ++i) {
      Datum datum;
      datum.set_data(std::string(2000, 'x'));
      datum.set_label(static_cast<int>(i));
      writer.Put(KeyOf(i), datum.SerializeAsString());
    }
    writer.Finish();
  }
  const auto data = OpenLmdb(folder / "db", Color::kAsStored);
  EXPECT_EQ(data->size(), 3000);
  EXPECT_THAT(data->Describe(2345), HasSubstr(KeyOf(2345)));
  EXPECT_EQ(std::filesystem::status(folder / "db").permissions(), std::filesystem::perms{0744});
}

TEST(LmdbWriter, LeavesNothingBehindUnlessFinished) {
  DataFolder folder;
  { LmdbWriter(folder / "db").Put("key", "value"); }
  EXPECT_FALSE(FileExists(folder / "db"));
  EXPECT_FALSE(FileExists(folder / "db.partial"));
  MakeDirectories(folder / "there");
  EXPECT_THAT(ErrorOf([&] { LmdbWriter(folder / "there"); }), HasSubstr("exists already"));
  EXPECT_THAT(ErrorOf([&] { LmdbWriter(folder / "no/where"); }), HasSubstr("No such file"));
}

// ------------------------------------------------------------------------------------------------ list files

TEST(ImageList, ReadsPathsWithBlanksAndResizes) {
  DataFolder folder;
  cv::imwrite(folder / "one two.png", Picture(6, 8));
  cv::imwrite(folder / "b.png", Picture(20, 30));
  WriteFile(folder / "list", "one two.png 7\r\n\nb.png -1\nabsent.png 3");
  ImageListOptions options;
  options.root = folder / "";
  options.height = 10, options.width = 12;
  const auto data = OpenImageList(folder / "list", options);
  ASSERT_EQ(data->size(), 3);
  Image image;
  data->Read(0, &image);
  EXPECT_EQ(image.label, 7);
  EXPECT_EQ(image.size, (ImageSize{3, 10, 12}));
  data->Read(1, &image);
  EXPECT_EQ(image.label, -1);
  EXPECT_THAT(ErrorOf([&] { data->Read(2, &image); }), HasSubstr("absent.png in line 4 of "));
  WriteFile(folder / "list", "\xEF\xBB\xBFone two.png 7\n");  // with a byte order mark
  options.color = Color::kGray, options.height = options.width = 0;
  options.root = folder / ".";  // without a slash
  OpenImageList(folder / "list", options)->Read(0, &image);
  EXPECT_EQ(image.size, (ImageSize{1, 6, 8}));
}

TEST(ImageList, SaysWhatIsWrong) {
  DataFolder folder;
  const auto error = [&](const std::string& text) {
    WriteFile(folder / "list", text);
    return ErrorOf([&] { OpenImageList(folder / "list", {}); });
  };
  EXPECT_THAT(error(""), HasSubstr("has no images"));
  EXPECT_THAT(error("a.png 1\nb.png\n"), HasSubstr("line 2 of "));
  EXPECT_THAT(error(" 1\n"), HasSubstr("where a path and a label were expected"));
  EXPECT_THAT(error("a.png one\n"), HasSubstr("has the label 'one'"));
  EXPECT_THAT(ErrorOf([&] { OpenImageList(folder / "absent", {}); }), HasSubstr("absent"));
  ImageListOptions options;
  options.height = 3;
  WriteFile(folder / "list", "a.png 1");
  EXPECT_THAT(ErrorOf([&] { OpenImageList(folder / "list", options); }), HasSubstr("both or neither"));
}

// --------------------------------------------------------------------------------------------------- order

TEST(Sampler, VisitsEveryRecordOncePerEpoch) {
  const Sampler ordered{7, 3, false}, shuffled{1000, 3, true}, other{1000, 4, true};
  for (int64_t p = 0; p < 30; ++p) EXPECT_EQ(ordered.RecordAt(p), p % 7);
  std::vector<std::vector<int64_t>> orders;
  for (const Sampler& sampler : {shuffled, other})
    for (int64_t epoch : {0, 1, 5}) {
      std::vector<int64_t> order;
      for (int64_t k = 0; k < 1000; ++k) order.push_back(sampler.RecordAt(epoch * 1000 + k));
      EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 1000u);
      orders.push_back(order);
    }
  for (size_t a = 0; a < orders.size(); ++a)
    for (size_t b = 0; b < a; ++b) EXPECT_NE(orders[a], orders[b]);
}

// ------------------------------------------------------------------------------------------------- prefetch

TEST(Prefetch, GivesItemsInOrderAndFromAnywhere) {
  Prefetch<int64_t> queue([](int64_t index, int64_t* item) { *item = index * index; }, 4, 6);
  for (int64_t index : {0, 1, 2, 3, 10, 11, 12, 0, 1, 1, 5, 1000000})
    EXPECT_EQ(queue.Get(index), index * index);
}

TEST(Prefetch, ThrowsWhatTheItemThrewAndGoesOn) {
  Prefetch<int64_t> queue(
      [](int64_t index, int64_t* item) {
        Require(index % 3 != 1, "item ", index, " is bad");
        *item = index;
      },
      3, 4);
  for (int64_t index = 0; index < 30; ++index) {
    if (index % 3 == 1) {
      EXPECT_EQ(ErrorOf([&] { queue.Get(index); }), Concat("item ", index, " is bad"));
    } else {
      EXPECT_EQ(queue.Get(index), index);
    }
  }
}

TEST(Prefetch, MakesNoMoreThanItWasAllowed) {
  std::atomic<int64_t> largest = -1, made = 0;
  {
    Prefetch<int64_t> queue(
        [&](int64_t index, int64_t*) {
          ++made;
          int64_t seen = largest;
          while (seen < index && !largest.compare_exchange_weak(seen, index)) {}
        },
        4, 3, 100);
    for (int64_t index = 0; index < 50; ++index) {
      queue.Get(index);
      EXPECT_LT(largest, index + 1 + 3);
    }
  }
  EXPECT_LE(made, 53);
}

// -------------------------------------------------------------------------------------------------- source

SourceOptions Options(int64_t batch) {
  SourceOptions options;
  options.batch = options.global_batch = batch;
  return options;
}

TEST(Source, ReadsTheSameOnAnyNumberOfRanks) {
  DataFolder folder;
  WriteNumbered(folder / "db", 23);
  const auto data = OpenLmdb(folder / "db", Color::kAsStored);
  SourceOptions whole = Options(7);
  whole.shuffle = true, whole.seed = 5, whole.threads = 3;
  whole.transform.set_crop_size(3), whole.transform.set_mirror(true), whole.transform.set_random_erase(0.5f);
  whole.transform.set_color_jitter(0.5f), whole.transform.set_low_resolution(0.5f);
  Source one(data, whole);
  SourceOptions part = whole;
  std::vector<std::unique_ptr<Source>> ranks;
  for (int64_t batch : {2, 4, 1}) {
    part.batch = batch, part.threads = 1;
    ranks.push_back(std::make_unique<Source>(data, part));
    part.batch_offset += batch;
  }
  for (int64_t pass = 0; pass < 12; ++pass) {
    Batch joined;
    for (auto& rank : ranks) {
      const Batch& batch = rank->Get(pass);
      joined.images.insert(joined.images.end(), batch.images.begin(), batch.images.end());
      joined.labels.insert(joined.labels.end(), batch.labels.begin(), batch.labels.end());
    }
    const Batch& batch = one.Get(pass);
    EXPECT_EQ(batch.labels, joined.labels);
    EXPECT_EQ(batch.images, joined.images);
  }
  const std::vector<float> images = one.Get(12).images;
  EXPECT_NE(one.Get(13).images, images);
  EXPECT_EQ(one.Get(12).images, images);  // going back
}

TEST(Source, SkipsBadRecordsOnlyWhereAsked) {
  DataFolder folder;
  std::vector<Datum> records = {Datum(), RawDatum(1), Datum(), Datum(), RawDatum(4), Datum()};
  WriteDatabase(folder / "db", records);
  WriteDatabase(folder / "bad", {Datum(), Datum()});
  const auto data = OpenLmdb(folder / "db", Color::kAsStored),
             bad = OpenLmdb(folder / "bad", Color::kAsStored);
  SourceOptions options = Options(6);
  EXPECT_THAT(ErrorOf([&] { Source(data, options); }),
              HasSubstr("record '00000000_image' of " + folder / "db"));
  options.skip_bad_records = true;
  for (int threads : {1, 3}) {
    options.threads = threads;
    Source source(data, options);
    EXPECT_EQ(source.Get(0).labels, (std::vector<int64_t>{1, 1, 4, 4, 4, 1}));
    EXPECT_EQ(source.Get(1).labels, (std::vector<int64_t>{1, 1, 4, 4, 4, 1}));
    EXPECT_EQ(source.skipped(), 4);
  }
  EXPECT_THAT(ErrorOf([&] { Source(bad, options); }), HasSubstr("none of the 2 records can be read"));
}

TEST(Source, RefusesOtherSizes) {
  DataFolder folder;
  WriteDatabase(folder / "db", {RawDatum(0), RawDatum(1, {3, 4, 6})});
  WriteDatabase(folder / "gray", {RawDatum(0), RawDatum(1, {1, 4, 5})});
  SourceOptions options = Options(2);
  options.skip_bad_records = true;  // it does decode
  EXPECT_EQ(ErrorOf([&] { Source(OpenLmdb(folder / "db", Color::kAsStored), options).Get(0); }),
            "record '00000001_image' of " + folder / "db" +
                " is 3x4x6 where 3x4x5, the size of the first record, was expected");
  EXPECT_THAT(ErrorOf([&] { Source(OpenLmdb(folder / "gray", Color::kAsStored), options).Get(0); }),
              HasSubstr("force_color"));
}

}  // namespace
}  // namespace crema
