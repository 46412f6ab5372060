/* Fuzz target: these bytes as a batch of CIFAR-10, as its list of names, and as its archive. */
#include "fuzz_file.h"

#include "core/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void load(const cnn_dataset_files *files, cnn_subset subset)
{
    cnn_dataset dataset = {.id = CNN_DATASET_CIFAR10, .classes = 10};
    if (cnn_cifar_load(files, subset, &dataset) != CNN_OK)
        return;
    size_t sum = 0, bytes = (size_t)dataset.count * 32 * 32 * 3;
    for (size_t i = 0; i < bytes; i++) /* all of them must be there to read */
        sum += dataset.images[i];
    for (int32_t i = 0; i < dataset.count; i++)
        sum += dataset.labels[i];
    fuzz_use(sum);
    free(dataset.images);
    free(dataset.labels);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "%s", fuzz_file(data, size));
    const cnn_dataset_files archive = {.path = {path}, .archive = true};
    load(&archive, CNN_SUBSET_TRAIN);
    load(&archive, CNN_SUBSET_TEST);
    const cnn_dataset_files batch = {.path = {path}}, names = {.path = {path, [CNN_DATASET_FILES - 1] = path}};
    load(&batch, CNN_SUBSET_TEST);
    load(&names, CNN_SUBSET_TEST);
    return 0;
}
