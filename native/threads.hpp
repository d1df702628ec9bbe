// Threads that share out the rows of a batch.
#pragma once
#include <functional>

namespace recurra {

// Calls part(0) … part(count - 1), as many at once, and returns when all are done. The calling thread takes part 0. Where
// the threads are busy with another call, or the process was forked since they were made, it makes do with itself or with
// new ones. Waiting threads sleep.
void in_parallel(int count, const std::function<void(int)>& part);

}  // namespace recurra
