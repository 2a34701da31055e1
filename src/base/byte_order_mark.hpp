// Floor 0. The three bytes with which some editors begin a text in UTF-8.
#pragma once

#include <string_view>

namespace crema {

// Where the text begins: behind the mark, if there is one.
inline size_t BeginOfText(std::string_view bytes) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  return bytes.starts_with(kMark) ? kMark.size() : 0;
}

}  // namespace crema
