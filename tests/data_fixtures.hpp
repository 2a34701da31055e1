// What the data tests share: a folder, databases and images made by hand.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <opencv2/imgcodecs.hpp>

#include "crema/data.hpp"
#include "crema/io.hpp"
#include "data/lmdb_writer.hpp"

namespace crema {

class DataFolder {
 public:
  DataFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "crema_data_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~DataFolder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// shared/data, or "" where it is absent.
inline std::string SharedData() {
  for (const char* up : {"/../shared/data", "/../../shared/data"})
    if (FileExists(std::string(CREMA_SOURCE_DIR) + up)) return std::string(CREMA_SOURCE_DIR) + up;
  return "";
}

// The sentence of the Error that `body` throws, or "".
inline std::string ErrorOf(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Raw bytes C, H, W, element i being (7 * label + i) % 251.
inline Datum RawDatum(int label, ImageSize size = {3, 4, 5}) {
  Datum datum;
  datum.set_channels(static_cast<int>(size.channels));
  datum.set_height(static_cast<int>(size.height));
  datum.set_width(static_cast<int>(size.width));
  datum.set_label(label);
  for (int64_t i = 0; i < size.count(); ++i)
    datum.mutable_data()->push_back(static_cast<char>((7 * label + i) % 251));
  return datum;
}

inline Datum EncodedDatum(const cv::Mat& image, int label, const std::string& format) {
  std::vector<uint8_t> bytes;
  cv::imencode("." + format, image, bytes);
  Datum datum;
  datum.set_data(bytes.data(), bytes.size());
  datum.set_label(label);
  datum.set_encoded(true);
  return datum;
}

inline std::string KeyOf(size_t index) {
  const std::string digits = std::to_string(index);
  return std::string(8 - digits.size(), '0') + digits + "_image";
}

inline void WriteDatabase(const std::string& path, const std::vector<Datum>& records) {
  LmdbWriter writer(path);
  for (size_t i = 0; i < records.size(); ++i) writer.Put(KeyOf(i), records[i].SerializeAsString());
  writer.Finish();
}

// Raw records of labels 0 to count - 1.
inline void WriteNumbered(const std::string& path, int count) {
  std::vector<Datum> records;
  for (int i = 0; i < count; ++i) records.push_back(RawDatum(i));
  WriteDatabase(path, records);
}

// A smooth colour image, so that JPEG keeps it.
inline cv::Mat Picture(int height, int width, int shade = 0) {
  cv::Mat image(height, width, CV_8UC3);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      image.at<cv::Vec3b>(y, x) = cv::Vec3b(static_cast<uint8_t>(40 + 2 * x), static_cast<uint8_t>(90 + y),
                                            static_cast<uint8_t>(20 + shade));
  return image;
}

}  // namespace crema
