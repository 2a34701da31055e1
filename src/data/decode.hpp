// Floor 3, the data wing. Encoded images to pixels. Called by this wing and by tools.
#pragma once

#include <cstdint>
#include <string>

#include <opencv2/core.hpp>

#include "crema/data.hpp"

namespace crema {

// 8-bit pixels of a JPEG, PNG or another image that OpenCV reads; empty where the bytes are no whole image.
cv::Mat DecodeImage(const void* bytes, size_t size, Color color);
// The same of a file; empty where it cannot be read too.
cv::Mat DecodeImageFile(const std::string& path, Color color);

// Size and pixels of `image`; its label stays.
void TakePixels(const cv::Mat& from, Image* image);

// `root` and `path` joined as Caffe does, one after another, but with a slash where root is a folder without
// one.
std::string UnderRoot(const std::string& root, const std::string& path);

}  // namespace crema
