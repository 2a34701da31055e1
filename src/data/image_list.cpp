#include "data/image_list.hpp"

#include <charconv>

#include <opencv2/imgproc.hpp>

#include "base/byte_order_mark.hpp"
#include "crema/data.hpp"
#include "crema/io.hpp"
#include "data/decode.hpp"

namespace crema {
namespace {

constexpr const char* kBlanks = " \t\r";

class ListDataset final : public Dataset {
 public:
  ListDataset(const std::string& list, const ImageListOptions& options) : list_(list), options_(options) {
    Require((options.height > 0) == (options.width > 0), "images are to be resized to height ",
            options.height, " and width ", options.width, "; expected both or neither");
  }
  int64_t size() const override { return list_.size(); }
  std::string Describe(int64_t index) const override {
    return Concat("image ", UnderRoot(options_.root, list_.path(index)), " in line ", list_.line(index),
                  " of ", list_.file());
  }
  void Read(int64_t index, Image* image) const override {
    cv::Mat pixels = DecodeImageFile(UnderRoot(options_.root, list_.path(index)), options_.color);
    if (pixels.empty()) throw BadRecord(Concat(Describe(index), " cannot be read or decoded"));
    if (options_.height > 0)
      cv::resize(pixels, pixels,
                 cv::Size(static_cast<int>(options_.width), static_cast<int>(options_.height)));
    TakePixels(pixels, image);
    image->label = list_.label(index);
  }

 private:
  ImageList list_;
  ImageListOptions options_;
};

}  // namespace

ImageList::ImageList(const std::string& file) : file_(file), text_(ReadFile(file)) {
  int64_t line = 0;
  for (size_t begin = BeginOfText(text_); begin < text_.size();) {
    size_t end = text_.find('\n', begin);
    if (end == std::string::npos) end = text_.size();
    Add(begin, end, ++line);
    begin = end + 1;
  }
  Require(!entries_.empty(), "the list ", file, " has no images; expected lines of a path and a label");
}

void ImageList::Add(size_t begin, size_t end, int64_t line) {
  const std::string_view text = std::string_view(text_).substr(begin, end - begin);
  const size_t last = text.find_last_not_of(kBlanks);
  if (last == std::string_view::npos) return;
  const size_t space = text.find_last_of(" \t", last);
  const size_t path_end = space == std::string_view::npos ? space : text.find_last_not_of(kBlanks, space);
  Require(path_end != std::string_view::npos, "line ", line, " of ", file_, " is '", text.substr(0, last + 1),
          "' where a path and a label were expected");
  const std::string_view word = text.substr(space + 1, last - space);
  int64_t label = 0;
  const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), label);
  Require(error == std::errc() && stop == word.data() + word.size(), "line ", line, " of ", file_,
          " has the label '", word, "' where a whole number was expected");
  entries_.push_back({begin, path_end + 1, label, line});
}

std::shared_ptr<const Dataset> OpenImageList(const std::string& list, const ImageListOptions& options) {
  return std::make_shared<ListDataset>(list, options);
}

}  // namespace crema
