// What is done to an image on its way into a net.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "data_fixtures.hpp"

namespace crema {
namespace {

using testing::HasSubstr;

constexpr ImageSize kSize{3, 6, 8};

// Pixel (y, x, c) is 100 c + 10 y + x.
Image Ramp(ImageSize size = kSize) {
  Image image;
  image.size = size;
  for (int64_t y = 0; y < size.height; ++y)
    for (int64_t x = 0; x < size.width; ++x)
      for (int64_t c = 0; c < size.channels; ++c)
        image.pixels.push_back(static_cast<uint8_t>(80 * c + 10 * y + x));
  return image;
}

std::vector<float> Changed(const TransformationParameter& spec, Phase phase, int64_t position,
                           Image image = Ramp(), uint64_t seed = 1) {
  const Augment augment(spec, phase, seed, image.size);
  std::vector<float> out(static_cast<size_t>(augment.out_size().count()));
  augment(position, &image, out.data());
  return out;
}

TEST(Augment, SubtractsTheMeanAndScales) {
  TransformationParameter spec;
  spec.set_scale(0.5f);
  for (float mean : {1.f, 2.f, 3.f}) spec.add_mean_value(mean);
  const Image image = Ramp();
  const std::vector<float> out = Changed(spec, TRAIN, 0);
  for (size_t i = 0; i < out.size(); ++i)
    ASSERT_EQ(out[i], (static_cast<float>(image.pixels[i]) - static_cast<float>(i % 3 + 1)) * 0.5f);
  spec.set_rgb(true);
  const std::vector<float> swapped = Changed(spec, TRAIN, 0);
  for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(swapped[i], out[i / 3 * 3 + 2 - i % 3]);
}

TEST(Augment, TakesNumbersAsItTakesPixels) {
  TransformationParameter spec;
  spec.set_crop_size(4), spec.set_mirror(true), spec.add_mean_value(9);
  Image numbers = Ramp();
  numbers.numbers.assign(numbers.pixels.begin(), numbers.pixels.end());
  numbers.pixels.clear();
  for (int64_t position : {0, 1, 2, 3})
    EXPECT_EQ(Changed(spec, TRAIN, position, numbers), Changed(spec, TRAIN, position));
  spec.set_grayscale(1);
  EXPECT_THAT(ErrorOf([&] { Changed(spec, TRAIN, 0, numbers); }), HasSubstr("float_data"));
  EXPECT_EQ(Changed(spec, TEST, 0, numbers), Changed(spec, TEST, 0));
}

TEST(Augment, CropsTheCentreInTestAndAnywhereInTrain) {
  TransformationParameter spec;
  spec.set_crop_size(3);
  const auto corner = [&](Phase phase, int64_t position) { return Changed(spec, phase, position)[0]; };
  for (int64_t position = 0; position < 20; ++position) EXPECT_EQ(corner(TEST, position), 10 * 1 + 2);
  std::set<float> corners;
  for (int64_t position = 0; position < 500; ++position) corners.insert(corner(TRAIN, position));
  std::set<float> expected;
  for (int y = 0; y <= 3; ++y)
    for (int x = 0; x <= 5; ++x) expected.insert(static_cast<float>(10 * y + x));
  EXPECT_EQ(corners, expected);
}

TEST(Augment, MirrorsHalfOfTheImagesInBothPhases) {
  TransformationParameter spec;
  spec.set_mirror(true);
  const std::vector<float> plain = Changed(TransformationParameter(), TEST, 0);
  for (Phase phase : {TRAIN, TEST}) {
    int mirrored = 0;
    for (int64_t position = 0; position < 400; ++position) {
      const std::vector<float> out = Changed(spec, phase, position);
      if (out == plain) continue;
      ++mirrored;
      for (size_t y = 0; y < 6; ++y)
        for (size_t x = 0; x < 8; ++x)
          for (size_t c = 0; c < 3; ++c) ASSERT_EQ(out[(y * 8 + x) * 3 + c], plain[(y * 8 + 7 - x) * 3 + c]);
    }
    EXPECT_NEAR(mirrored, 200, 50);  // five standard deviations
  }
}

TEST(Augment, SamplesTheMeanImageWhereItCrops) {
  DataFolder folder;
  const Image image = Ramp();
  for (bool legacy : {false, true}) {
    BlobProto mean;
    if (legacy) {
      mean.set_num(1), mean.set_channels(3), mean.set_height(6), mean.set_width(8);
    } else {
      for (int64_t dim : {3, 6, 8}) mean.mutable_shape()->add_dim(dim);
    }
    for (size_t c = 0; c < 3; ++c)
      for (size_t s = 0; s < 48; ++s) mean.add_data(image.pixels[s * 3 + c]);
    WriteBinary(folder / "mean.binaryproto", mean);
    TransformationParameter spec;
    spec.set_mean_file(folder / "mean.binaryproto");
    spec.set_crop_size(3), spec.set_mirror(true), spec.set_rgb(true);
    for (int64_t position = 0; position < 20; ++position)
      for (float x : Changed(spec, TRAIN, position)) ASSERT_EQ(x, 0);
    EXPECT_THAT(ErrorOf([&] {
                  Changed(spec, TRAIN, 0, Ramp({3, 8, 6}));
                }),
                HasSubstr("3x8x6, the size of the images"));
  }
}

TEST(Augment, ChangesImagesInTrainAsOftenAsAsked) {
  const std::vector<float> plain = Changed(TransformationParameter(), TRAIN, 0);
  const auto share_changed = [&](const TransformationParameter& spec) {
    int changed = 0;
    for (int64_t position = 0; position < 400; ++position) {
      changed += Changed(spec, TRAIN, position) != plain;
      EXPECT_EQ(Changed(spec, TEST, position), plain);
    }
    return changed / 400.0;
  };
  TransformationParameter erase, jitter, gray, low;
  erase.set_random_erase(0.3f), jitter.set_color_jitter(0.3f);
  gray.set_grayscale(0.3f), low.set_low_resolution(0.3f);
  EXPECT_NEAR(share_changed(erase), 0.3, 0.12);
  EXPECT_NEAR(share_changed(jitter), 0.3, 0.12);
  EXPECT_NEAR(share_changed(gray), 0.3, 0.12);
  EXPECT_NEAR(share_changed(low), 0.3, 0.12);
}

TEST(Augment, ErasesARectangleToTheMean) {
  TransformationParameter spec;
  spec.set_random_erase(1), spec.add_mean_value(300);  // more than any pixel
  const ImageSize size{1, 40, 50};
  Image image;
  image.size = size;
  image.pixels.assign(2000, 9);
  for (int64_t position = 0; position < 100; ++position) {
    const std::vector<float> out = Changed(spec, TRAIN, position, image);
    int64_t top = 40, bottom = -1, left = 50, right = -1, erased = 0;
    for (int64_t i = 0; i < 2000; ++i) {
      if (out[static_cast<size_t>(i)] != 0) continue;
      ++erased;
      top = std::min(top, i / 50), bottom = std::max(bottom, i / 50);
      left = std::min(left, i % 50), right = std::max(right, i % 50);
    }
    EXPECT_EQ(erased, (bottom - top + 1) * (right - left + 1));
    EXPECT_GE(erased, 0.8 * 0.02 * 2000);
    EXPECT_LE(erased, 1.2 * 0.2 * 2000);
  }
}

TEST(Augment, TurnsGreyByLuma) {
  TransformationParameter spec;
  spec.set_grayscale(1);
  const Image image = Ramp();
  const std::vector<float> out = Changed(spec, TRAIN, 0);
  for (size_t i = 0; i < out.size(); ++i) {
    const uint8_t* p = image.pixels.data() + i / 3 * 3;
    ASSERT_NEAR(out[i], 0.114 * p[0] + 0.587 * p[1] + 0.299 * p[2], 0.501);
  }
}

TEST(Augment, JittersWithinItsStrength) {
  TransformationParameter spec;
  spec.set_color_jitter(1), spec.set_jitter_strength(0.2f);
  Image flat;
  flat.size = {3, 2, 2};
  flat.pixels.assign(12, 100);
  std::set<float> seen;
  for (int64_t position = 0; position < 200; ++position) {
    const std::vector<float> out =
        Changed(spec, TRAIN, position, flat);  // without contrast or colour: brightness alone
    for (float x : out) {
      EXPECT_EQ(x, out[0]);
      EXPECT_GE(x, 80);
      EXPECT_LE(x, 120);
    }
    seen.insert(out[0]);
  }
  EXPECT_GT(seen.size(), 25u);
  spec.set_jitter_strength(0);
  EXPECT_EQ(Changed(spec, TRAIN, 3), Changed(TransformationParameter(), TRAIN, 3));
}

TEST(Augment, DependsOnSeedAndPositionAlone) {
  TransformationParameter spec;
  spec.set_crop_size(4), spec.set_mirror(true), spec.set_random_erase(0.5f), spec.set_color_jitter(1);
  EXPECT_EQ(Changed(spec, TRAIN, 7), Changed(spec, TRAIN, 7));
  EXPECT_NE(Changed(spec, TRAIN, 7), Changed(spec, TRAIN, 8));
  EXPECT_NE(Changed(spec, TRAIN, 7), Changed(spec, TRAIN, 7, Ramp(), 2));
}

TEST(Augment, WritesPlanesWhereAsked) {
  TransformationParameter spec;
  spec.set_crop_size(4), spec.set_mirror(true), spec.set_rgb(true), spec.set_random_erase(0.5f);
  for (int64_t position = 0; position < 20; ++position) {
    Image image = Ramp();
    const std::vector<float> last = Changed(spec, TRAIN, position);
    std::vector<float> planes(last.size());
    Augment(spec, TRAIN, 1, image.size, true)(position, &image, planes.data());
    for (size_t s = 0; s < 16; ++s)
      for (size_t c = 0; c < 3; ++c) ASSERT_EQ(planes[c * 16 + s], last[s * 3 + c]);
  }
}

TEST(Augment, SaysWhatIsNotPossible) {
  const auto error = [](auto set) {
    TransformationParameter spec;
    set(&spec);
    return ErrorOf([&] { Augment(spec, TRAIN, 0, kSize); });
  };
  EXPECT_THAT(error([](auto* s) { s->set_crop_size(7); }), HasSubstr("crop_size: 7 for images of 6x8"));
  EXPECT_THAT(error([](auto* s) { s->add_mean_value(1), s->add_mean_value(2); }),
              HasSubstr("2 values of mean_value"));
  EXPECT_THAT(error([](auto* s) { s->add_mean_value(1), s->set_mean_file("x"); }),
              HasSubstr("both mean_file and"));
  EXPECT_THAT(error([](auto* s) { s->set_mean_file("/absent"); }), HasSubstr("/absent"));
  EXPECT_THAT(error([](auto* s) { s->set_random_erase(1.5f); }), HasSubstr("random_erase: 1.5"));
  EXPECT_THAT(error([](auto* s) { s->set_jitter_strength(-1); }), HasSubstr("jitter_strength"));
}

}  // namespace
}  // namespace crema
