#include <algorithm>
#include <cmath>

#include <opencv2/imgproc.hpp>

#include "crema/data.hpp"
#include "crema/io.hpp"
#include "crema/philox.hpp"

namespace crema {
namespace {

// The random numbers of a sample, by what they decide.
enum Draw {
  kCropTop,
  kCropLeft,
  kMirror,
  kLowResolution,
  kLowResolutionFactor,
  kJitter,
  kBrightness,
  kContrast,
  kSaturation,
  kGrayscale,
  kErase,
  kEraseArea,
  kEraseAspect,
  kEraseTop,
  kEraseLeft
};

float Luma(const uint8_t* bgr) {  // Rec. 601
  return 0.114f * bgr[0] + 0.587f * bgr[1] + 0.299f * bgr[2];
}

// Down by `factor` and up again.
void LowerResolution(double factor, cv::Mat* image) {
  const auto smaller = [&](int side) { return std::max(1, static_cast<int>(std::lround(side / factor))); };
  cv::Mat small;
  cv::resize(*image, small, cv::Size(smaller(image->cols), smaller(image->rows)), 0, 0, cv::INTER_AREA);
  cv::resize(small, *image, image->size(), 0, 0, cv::INTER_LINEAR);
}

// Brightness times `brightness`, distance from the image's mean luma times `contrast`, distance from the
// pixel's own luma times `saturation`.
void Jitter(float brightness, float contrast, float saturation, Image* image) {
  const int64_t channels = image->size.channels, positions = image->size.height * image->size.width;
  const bool colored = channels == 3;
  double sum = 0;
  for (int64_t s = 0; s < positions; ++s) {
    const uint8_t* p = image->pixels.data() + s * channels;
    sum += colored ? Luma(p) : p[0];
  }
  const float mean = static_cast<float>(sum / static_cast<double>(positions)) * brightness;
  for (int64_t s = 0; s < positions; ++s) {
    uint8_t* p = image->pixels.data() + s * channels;
    const float own = colored ? (Luma(p) * brightness - mean) * contrast + mean : 0;
    for (int64_t c = 0; c < channels; ++c) {
      const float value = (p[c] * brightness - mean) * contrast + mean;
      p[c] = cv::saturate_cast<uint8_t>(colored ? (value - own) * saturation + own : value);
    }
  }
}

void ToGray(Image* image) {
  if (image->size.channels != 3) return;
  for (size_t i = 0; i < image->pixels.size(); i += 3) {
    uint8_t* p = image->pixels.data() + i;
    p[0] = p[1] = p[2] = cv::saturate_cast<uint8_t>(Luma(p));
  }
}

std::vector<float> MeanImage(const std::string& file, const ImageSize& size) {
  BlobProto blob;
  ReadBinary(file, &blob);
  const bool modern = blob.has_shape();
  std::vector<int64_t> dims(blob.shape().dim().begin(), blob.shape().dim().end());
  if (!modern) dims = {blob.num(), blob.channels(), blob.height(), blob.width()};
  if (dims.size() == 4 && dims[0] == 1) dims.erase(dims.begin());
  const bool fits = dims == std::vector<int64_t>{size.channels, size.height, size.width} &&
                    blob.data_size() == size.count();
  std::string found;
  for (int64_t dim : dims) found += (found.empty() ? "" : "x") + std::to_string(dim);
  Require(fits, "the mean image ", file, " is ", found, " with ", blob.data_size(), " values where ",
          ToString(size), ", the size of the images, was expected");
  std::vector<float> mean(static_cast<size_t>(size.count()));
  const int64_t inner = size.height * size.width;
  for (int64_t c = 0; c < size.channels; ++c)
    for (int64_t s = 0; s < inner; ++s)
      mean[static_cast<size_t>(s * size.channels + c)] = blob.data(static_cast<int>(c * inner + s));
  return mean;
}

std::vector<float> MeanOf(const TransformationParameter& spec, const ImageSize& size) {
  Require(!spec.has_mean_file() || spec.mean_value_size() == 0,
          "transform_param has both mean_file and mean_value; expected one of them");
  if (spec.has_mean_file()) return MeanImage(spec.mean_file(), size);
  const int given = spec.mean_value_size();
  Require(given <= 1 || given == size.channels, "transform_param has ", given,
          " values of mean_value for images of ", size.channels,
          " channels; expected one, or one per channel");
  std::vector<float> mean(static_cast<size_t>(size.channels), given > 0 ? spec.mean_value(0) : 0.f);
  for (int c = 1; c < given; ++c) mean[static_cast<size_t>(c)] = spec.mean_value(c);
  return mean;
}

void CheckShare(const char* name, float share) {
  Require(share >= 0 && share <= 1, "transform_param has ", name, ": ", share,
          " where a number from 0 to 1 was expected");
}

// Where a row of the output goes.
struct RowSteps {
  int64_t channel, pixel;
};

// A row of an image into the net's input. kChannels is the number of channels where the compiler may know it.
template <int kChannels, class Pixel>
void TransformRow(const Pixel* in, const float* mean, int64_t mean_step, int64_t width, int64_t channel_count,
                  bool mirror, bool swap, float scale, RowSteps steps, float* out) {
  const int64_t channels = kChannels > 0 ? kChannels : channel_count;
  for (int64_t x = 0; x < width; ++x) {
    float* to = out + (mirror ? width - 1 - x : x) * steps.pixel;
    for (int64_t c = 0; c < channels; ++c)
      to[(swap ? channels - 1 - c : c) * steps.channel] =
          (static_cast<float>(in[x * channels + c]) - mean[x * mean_step + c]) * scale;
  }
}

}  // namespace

Augment::Augment(const TransformationParameter& spec, Phase phase, uint64_t seed, const ImageSize& size,
                 bool planar)
    : spec_(spec), phase_(phase), seed_(seed), in_(size), out_(size), mean_(MeanOf(spec, size)) {
  const int64_t crop = spec.crop_size();
  Require(crop <= size.height && crop <= size.width, "transform_param has crop_size: ", crop,
          " for images of ", size.height, "x", size.width);
  if (crop > 0) out_.height = out_.width = crop;
  channel_step_ = planar ? out_.height * out_.width : 1;
  pixel_step_ = planar ? 1 : out_.channels;
  CheckShare("random_erase", spec.random_erase());
  CheckShare("color_jitter", spec.color_jitter());
  CheckShare("jitter_strength", spec.jitter_strength());
  CheckShare("grayscale", spec.grayscale());
  CheckShare("low_resolution", spec.low_resolution());
}

double Augment::Uniform(int64_t position, int draw) const {
  return MakePhilox(seed_, "augment", position).Uniform(static_cast<uint64_t>(draw));
}

int64_t Augment::Below(int64_t position, int draw, int64_t bound) const {
  return static_cast<int64_t>(Uniform(position, draw) * static_cast<double>(bound));
}

void Augment::ChangePixels(int64_t position, Image* image) const {
  const auto happens = [&](Draw draw, float share) { return share > 0 && Uniform(position, draw) < share; };
  const bool low = happens(kLowResolution, spec_.low_resolution());
  const bool jitter = happens(kJitter, spec_.color_jitter());
  const bool gray = happens(kGrayscale, spec_.grayscale());
  if (!low && !jitter && !gray) return;
  Require(!image->pixels.empty(),
          "transform_param asks for color_jitter, grayscale or low_resolution, which need records of 8-bit "
          "pixels, "
          "but the records are float_data");
  if (low) {
    cv::Mat pixels(static_cast<int>(in_.height), static_cast<int>(in_.width),
                   CV_8UC(static_cast<int>(in_.channels)), image->pixels.data());
    LowerResolution(1 + 3 * Uniform(position, kLowResolutionFactor), &pixels);
  }
  if (jitter) {
    const auto factor = [&](Draw draw) {
      return static_cast<float>(1 + spec_.jitter_strength() * (2 * Uniform(position, draw) - 1));
    };
    Jitter(factor(kBrightness), factor(kContrast), factor(kSaturation), image);
  }
  if (gray) ToGray(image);
}

// Zhong et al., "Random Erasing Data Augmentation", 2020: a rectangle of 2 % to 20 % of the area, its sides
// in a ratio of 0.3 to 1 / 0.3. Zero is the mean.
void Augment::Erase(int64_t position, float* out) const {
  const double area =
      (0.02 + 0.18 * Uniform(position, kEraseArea)) * static_cast<double>(out_.height * out_.width);
  const double aspect = std::exp(std::log(0.3) * (2 * Uniform(position, kEraseAspect) - 1));
  const int64_t height = std::clamp<int64_t>(std::lround(std::sqrt(area * aspect)), 1, out_.height);
  const int64_t width = std::clamp<int64_t>(std::lround(std::sqrt(area / aspect)), 1, out_.width);
  const int64_t top = Below(position, kEraseTop, out_.height - height + 1);
  const int64_t left = Below(position, kEraseLeft, out_.width - width + 1);
  for (int64_t y = top; y < top + height; ++y)
    for (int64_t x = left; x < left + width; ++x)
      for (int64_t c = 0; c < out_.channels; ++c)
        out[(y * out_.width + x) * pixel_step_ + c * channel_step_] = 0;
}

void Augment::operator()(int64_t position, Image* image, float* out) const {
  if (phase_ == TRAIN) ChangePixels(position, image);
  const int64_t spare_rows = in_.height - out_.height, spare_columns = in_.width - out_.width;
  const int64_t top = phase_ == TRAIN ? Below(position, kCropTop, spare_rows + 1) : spare_rows / 2;
  const int64_t left = phase_ == TRAIN ? Below(position, kCropLeft, spare_columns + 1) : spare_columns / 2;
  const bool mirror = spec_.mirror() && Uniform(position, kMirror) < 0.5;
  const bool swap = spec_.rgb() && in_.channels == 3;
  const bool mean_image = spec_.has_mean_file();
  for (int64_t y = 0; y < out_.height; ++y) {
    const int64_t from = ((top + y) * in_.width + left) * in_.channels;
    const float* mean = mean_.data() + (mean_image ? from : 0);
    float* to = out + y * out_.width * pixel_step_;
    const auto transform = [&](const auto* in) {
      const auto row = in_.channels == 3 ? TransformRow<3, std::decay_t<decltype(*in)>>
                                         : TransformRow<0, std::decay_t<decltype(*in)>>;
      row(in + from, mean, mean_image ? in_.channels : 0, out_.width, in_.channels, mirror, swap,
          spec_.scale(), {channel_step_, pixel_step_}, to);
    };
    if (image->pixels.empty()) {
      transform(image->numbers.data());
    } else {
      transform(image->pixels.data());
    }
  }
  if (phase_ == TRAIN && spec_.random_erase() > 0 && Uniform(position, kErase) < spec_.random_erase())
    Erase(position, out);
}

}  // namespace crema
