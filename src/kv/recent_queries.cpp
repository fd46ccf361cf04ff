#include "kv/recent_queries.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "kernels/half_floats.h"

namespace adze::kv {
namespace {

// A large window that follows the text would otherwise take another page with every few rows.
int64_t places_for(int64_t window) {
  constexpr int64_t kStep = 16;
  return window <= 4 * kStep ? window : (window + kStep - 1) / kStep * kStep;
}

}  // namespace

int64_t RecentQueries::page_bytes(int64_t window, int64_t heads, int64_t head_dim) {
  return places_for(window) * heads *
         (head_dim * static_cast<int64_t>(sizeof(uint16_t)) + static_cast<int64_t>(sizeof(float)));
}

void RecentQueries::resize(PagePool& pool, int64_t places, int64_t heads, int64_t head_dim) {
  const QueryRows old = last(std::min(held_, places));
  page_ = pool.allocate(page_bytes(places, heads, head_dim));
  places_ = places;
  heads_ = heads;
  head_dim_ = head_dim;
  held_ = next_ = 0;
  push(pool,
       places,
       heads,
       head_dim,
       old.query.data(),
       old.log_sum_exp.data(),
       static_cast<int64_t>(old.back.size()));
}

void RecentQueries::push(PagePool& pool,
                         int64_t window,
                         int64_t heads,
                         int64_t head_dim,
                         const float* query,
                         const float* log_sum_exp,
                         int64_t rows) {
  if (window == 0) {
    return;
  }
  if (places_for(window) != places_) {
    resize(pool, places_for(window), heads, head_dim);
  } else if (page_.shared()) {
    page_ = pool.copy(page_);
  }
  const int64_t width = heads * head_dim;
  auto* halves = reinterpret_cast<uint16_t*>(page_.data());
  auto* sums = reinterpret_cast<float*>(page_.data() + places_ * width * 2);
  for (int64_t row = std::max<int64_t>(0, rows - places_); row < rows; ++row) {
    kernels::halves_from_floats(query + row * width, width, halves + next_ * width);
    std::copy_n(log_sum_exp + row * heads, heads, sums + next_ * heads);
    next_ = (next_ + 1) % places_;
    held_ = std::min(held_ + 1, places_);
  }
}

QueryRows RecentQueries::last(int64_t rows) const {
  rows = std::min(rows, held_);
  const int64_t width = heads_ * head_dim_;
  QueryRows result;
  result.query.resize(static_cast<size_t>(rows * width));
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t place = (next_ - rows + row + places_) % places_;
    kernels::floats_from_halves(reinterpret_cast<const uint16_t*>(page_.data()) + place * width,
                                width,
                                result.query.data() + row * width);
    const auto* sums =
        reinterpret_cast<const float*>(page_.data() + places_ * width * 2) + place * heads_;
    result.log_sum_exp.insert(result.log_sum_exp.end(), sums, sums + heads_);
    result.back.push_back(static_cast<int32_t>(rows - 1 - row));
  }
  return result;
}

void RecentQueries::save(core::StateWriter& writer) const {
  for (const int64_t value : {places_, heads_, head_dim_, held_, next_}) {
    writer.value(value);
  }
  if (page_) {
    writer.bytes({page_.data(), static_cast<size_t>(page_.bytes())});
  }
}

void RecentQueries::load(core::StateReader& reader, PagePool& pool) {
  RecentQueries loaded;
  for (int64_t* value :
       {&loaded.places_, &loaded.heads_, &loaded.head_dim_, &loaded.held_, &loaded.next_}) {
    *value = reader.value<int64_t>();
    if (*value < 0 || *value > (int64_t{1} << 20)) {
      throw core::error(
          "state", "{}: expected queries of a layer, got the size {}", reader.source(), *value);
    }
  }
  if (loaded.places_ > 0) {
    if (loaded.held_ > loaded.places_ || loaded.next_ >= loaded.places_) {
      throw core::error("state", "{}: expected a ring of {} rows", reader.source(), loaded.places_);
    }
    const int64_t bytes = page_bytes(loaded.places_, loaded.heads_, loaded.head_dim_);
    if (bytes == 0) {
      throw core::error("state", "{}: expected heads of a layer, got none", reader.source());
    }
    // Read before allocating: a false size runs out of bytes, never out of memory.
    const auto raw = reader.bytes(static_cast<uint64_t>(bytes));
    loaded.page_ = pool.allocate(bytes);
    std::copy(raw.begin(), raw.end(), loaded.page_.data());
  } else if (loaded.held_ > 0) {
    throw core::error("state", "{}: expected a ring of rows, got none", reader.source());
  }
  *this = std::move(loaded);
}

}  // namespace adze::kv
