#include "cli/length_histogram.h"

#include <algorithm>

#include <fmt/format.h>

namespace adze::cli {

std::string draw_length_histogram(const std::vector<LengthBin>& bins) {
  constexpr double kBin = 44;
  constexpr double kHeight = 220;
  constexpr double kLeft = 50;
  double documents = 0;
  double tokens = 0;
  double highest = 0;
  for (const LengthBin& bin : bins) {
    documents += static_cast<double>(bin.documents);
    tokens += static_cast<double>(bin.tokens);
  }
  const auto share = [](int64_t part, double all) {
    return all > 0 ? static_cast<double>(part) / all : 0;
  };
  for (const LengthBin& bin : bins) {
    highest = std::max({highest, share(bin.documents, documents), share(bin.tokens, tokens)});
  }
  const double width = kLeft + kBin * static_cast<double>(bins.size()) + 20;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" "
      "aria-label=\"lengths of documents\" font-family=\"sans-serif\" font-size=\"11\">\n",
      width,
      kHeight + 70);
  svg += fmt::format(
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"{0}\" y=\"16\" fill=\"#2f6f9f\">documents: {1:.0f}</text>\n"
      "<text x=\"{2}\" y=\"16\" fill=\"#c0632f\">tokens: {3:.0f}</text>\n",
      kLeft,
      documents,
      kLeft + 150,
      tokens);
  const double bottom = kHeight + 30;
  for (size_t i = 0; i < bins.size(); ++i) {
    const double x = kLeft + kBin * static_cast<double>(i);
    const auto bar = [&](double place, double part, const char* colour) {
      const double height = highest > 0 ? part / highest * kHeight : 0;
      svg += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"18\" height=\"{:.1f}\" fill=\"{}\"/>\n",
          place,
          bottom - height,
          height,
          colour);
    };
    bar(x, share(bins[i].documents, documents), "#2f6f9f");
    bar(x + 19, share(bins[i].tokens, tokens), "#c0632f");
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                       x + 18,
                       bottom + 14,
                       bins[i].from);
  }
  svg += fmt::format(
      "<text x=\"4\" y=\"42\">{:.0f} %</text>\n"
      "<text x=\"{:.1f}\" y=\"{:.1f}\">tokens a document, from</text>\n</svg>\n",
      100 * highest,
      kLeft,
      bottom + 32);
  return svg;
}

}  // namespace adze::cli
