#include "data/decode.hpp"

#include <cstring>
#include <filesystem>
#include <string_view>

#include <opencv2/imgcodecs.hpp>

#include "crema/io.hpp"

namespace crema {
namespace {

// Whether a JPEG ends with its end mark. OpenCV fills up what is missing with grey and says nothing. Within
// the coded picture neither mark can stand, and a thumbnail's are before the picture's start of scan.
bool IsCutJpeg(std::string_view bytes) {
  if (bytes.size() < 3 || std::memcmp(bytes.data(), "\xFF\xD8\xFF", 3) != 0) return false;
  const size_t scan = bytes.rfind("\xFF\xDA"), end = bytes.rfind("\xFF\xD9");
  return scan == std::string_view::npos || end == std::string_view::npos || end < scan;
}

int ReadFlags(Color color) {
  switch (color) {
    case Color::kColor:
      return cv::IMREAD_COLOR;
    case Color::kGray:
      return cv::IMREAD_GRAYSCALE;
    default:
      return cv::IMREAD_ANYCOLOR;  // but turned upright, like the others
  }
}

}  // namespace

cv::Mat DecodeImage(const void* bytes, size_t size, Color color) {
  if (size == 0 || size > INT32_MAX || IsCutJpeg({static_cast<const char*>(bytes), size})) return {};
  try {
    const cv::Mat coded(1, static_cast<int>(size), CV_8U, const_cast<void*>(bytes));
    cv::Mat image = cv::imdecode(coded, ReadFlags(color));
    return image.depth() == CV_8U ? image : cv::Mat();
  } catch (const cv::Exception&) {  // too large an image, say
    return {};
  }
}

cv::Mat DecodeImageFile(const std::string& path, Color color) {
  try {
    const std::string bytes = ReadFile(path);
    return DecodeImage(bytes.data(), bytes.size(), color);
  } catch (const Error&) {
    return {};
  }
}

void TakePixels(const cv::Mat& from, Image* image) {
  image->size = {from.channels(), from.rows, from.cols};
  image->numbers.clear();
  image->pixels.resize(static_cast<size_t>(image->size.count()));
  const size_t row = static_cast<size_t>(from.cols) * from.elemSize();
  for (int y = 0; y < from.rows; ++y)
    std::memcpy(image->pixels.data() + static_cast<size_t>(y) * row, from.ptr(y), row);
}

std::string UnderRoot(const std::string& root, const std::string& path) {
  const bool needs_slash = !root.empty() && root.back() != '/' && std::filesystem::is_directory(root);
  return root + (needs_slash ? "/" : "") + path;
}

}  // namespace crema
