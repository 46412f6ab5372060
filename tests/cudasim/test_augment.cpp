/* Augmentation by the CUDA kernel makes the bytes that the CPU makes: all kinds, every schedule, grey and coloured. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"
#include "tests/cudasim/cudasim.h"

extern "C" {
#include "kernels/augment/apply.h"
#include "core/hash.h"
#include "train/augment.h"
}

#include <cstdio>
#include <vector>

/* ---- The runtime, as far as launches need it ---- */

cudaError_t cudasim_enqueue(cudaStream_t, std::function<void()> work)
{
    work();
    return cudaSuccess;
}

cudaError_t cudasim_fail(cudaError_t error)
{
    return error;
}

/* ---- Images ---- */

static const int count = 24;

/* Something with strokes: a slanted bar of random place, width and brightness, on black or on noise. */
static std::vector<uint8_t> draw_images(cnn_augment_shape shape, int images)
{
    std::vector<uint8_t> bytes;
    for (int n = 0; n < images; n++)
        for (int y = 0; y < shape.height; y++)
            for (int x = 0; x < shape.width; x++)
                for (int c = 0; c < shape.channels; c++) {
                    const uint64_t hash = cnn_splitmix64(static_cast<uint64_t>(n) * 77 + 5);
                    const int slant = static_cast<int>(hash % 5) - 2, width = 2 + static_cast<int>(hash / 5 % 4);
                    const int middle = shape.width / 2 + slant * (y - shape.height / 2) / 4;
                    const bool ink = y > 4 && y < shape.height - 4 && x >= middle && x < middle + width;
                    const uint64_t noise = cnn_splitmix64(hash + static_cast<uint64_t>((y * 64 + x) * 4 + c));
                    const uint64_t value = ink ? 180 + noise % 76 : shape.channels == 3 ? noise % 120 : 0;
                    bytes.push_back(static_cast<uint8_t>(n == 0 ? 0 : value)); /* the first image is empty */
                }
    return bytes;
}

static cnn_augment_recipe all_kinds(float share, bool mirror)
{
    cnn_augment_recipe recipe = {};
    recipe.share = share;
    recipe.mirror = mirror;
    recipe.one = 1;
    recipe.seven = 7;
    for (int kind = 0; kind < CNN_AUGMENT_KINDS; kind++)
        recipe.strength[kind] = kind == CNN_AUGMENT_ROTATE ? 12.0f : kind == CNN_AUGMENT_CUTOUT ? 6.0f : 0.3f;
    recipe.strength[CNN_AUGMENT_STROKE] = 2.5f;
    recipe.strength[CNN_AUGMENT_SERIF] = mirror ? 0.0f : 1.0f;
    recipe.strength[CNN_AUGMENT_ELASTIC] = 1.2f;
    return recipe;
}

/* ---- The check ---- */

static int failed;

static void check(cnn_augment_shape shape, bool mirror, int schedule)
{
    const size_t bytes = static_cast<size_t>(shape.height * shape.width * shape.channels);
    const cnn_augment_recipe recipe = all_kinds(0.9f, mirror);
    const std::vector<uint8_t> images = draw_images(shape, count);
    std::vector<int32_t> index;
    std::vector<cnn_augment_params> params(static_cast<size_t>(count));
    std::vector<uint8_t> want(count * bytes), got(count * bytes);
    std::vector<float> scratch(cnn_augment_scratch(shape)), table(static_cast<size_t>(shape.channels) * 256);
    std::vector<float> normalized(count * bytes);
    cnn_train_state state = {};
    state.cursor = 2;
    for (int n = 0; n < count + 2; n++)
        index.push_back((n * 7 + 3) % count);
    for (size_t i = 0; i < table.size(); i++)
        table[i] = (static_cast<float>(i % 256) / 255.0f - 0.4f) / 0.3f + static_cast<float>(i / 256);

    for (int n = 0; n < count; n++) {
        const int32_t image = index[static_cast<size_t>(n) + 2];
        cnn_augment_params *drawn = &params[static_cast<size_t>(n)];
        cnn_augment_draw(&recipe, 1, schedule, image, image % 2 ? 1 : 7, drawn);
        cnn_augment_apply(drawn, recipe.mirror, shape, &images[static_cast<size_t>(image) * bytes],
                          &want[static_cast<size_t>(n) * bytes], scratch.data());
    }

    simt_set_schedule(schedule);
    std::vector<float> planes(cnn_cuda_augment_workspace(shape, count) / sizeof(float));
    cnn_cuda_augmentation on = {shape, mirror,       images.data(), index.data(), params.data(), &state,
                                count, table.data(), CNN_U8,        got.data(),   planes.data()};
    const bool ran = cnn_cuda_augment(&on, nullptr) == cudaSuccess;
    on.dtype = CNN_F32;
    on.dst = normalized.data();
    const bool ran_too = cnn_cuda_augment(&on, nullptr) == cudaSuccess;
    size_t different = 0;
    for (size_t i = 0; i < want.size(); i++) {
        const size_t channel = i % static_cast<size_t>(shape.channels);
        different += got[i] != want[i] || normalized[i] != table[channel * 256 + want[i]];
    }
    if (!ran || !ran_too || different) {
        printf("%dx%dx%d mirror %d schedule %d: %zu of %zu bytes differ\n", shape.height, shape.width, shape.channels,
               mirror, schedule, different, want.size());
        failed++;
    }
}

int main()
{
    const cnn_augment_shape shapes[] = {{28, 28, 1}, {32, 32, 3}, {9, 45, 1}, {50, 60, 3}};
    for (int schedule = 0; schedule < SIMT_SCHEDULES; schedule++)
        for (const cnn_augment_shape &shape : shapes)
            check(shape, shape.channels == 3, schedule);
    printf("augment: %s\n", failed ? "failed" : "all bytes as on the CPU");
    return failed != 0;
}
