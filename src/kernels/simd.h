#pragma once
// Which instruction sets kernels are compiled for. Every kernel is one Highway source, compiled
// once a target and chosen at run time by what the CPU can do, never by a timing. Include before
// any <hwy/...> header.

// AVX2 and AVX-512 are what machines of the last decade have. An older one runs Highway's emulated
// 128-bit vectors: correct, slow, and without fused multiply-add, so with other bits.
// Highway compiles for AVX-512 with VNNI (integer products) only where HWY_WANT_AVX3_DL asks for
// it.
// A build that a sanitizer slows down disables AVX-512 as well.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#endif

#include <string>
#include <string_view>
#include <vector>

namespace adze::kernels {

// Names of the instruction sets that this CPU and this build both have, best first: "AVX3_DL"
// (AVX-512 with VNNI), "AVX3" (AVX-512), "AVX2".
std::vector<std::string> supported_isas();
std::string active_isa();
// For tests and comparisons (ADZE_ISA): kernels use at most this one. Throws InvalidOption.
void force_isa(std::string_view name);

}  // namespace adze::kernels
