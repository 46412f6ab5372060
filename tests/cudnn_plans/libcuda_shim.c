/* The calls of CUDA's driver without which cuDNN does not finish a plan that it compiles itself, for machines that have
 * no driver. All are documented calls of the driver API; loading a module succeeds, whatever would need a GPU says
 * CUDA_ERROR_NOT_SUPPORTED. It is found as libcuda.so.1 by the test of plans alone. */
#include <stdlib.h>

enum { NOT_SUPPORTED = 801 };

int cuLibraryLoadData(void **library, const void *code, void *options, void *values, unsigned count,
                      void *library_options, void *library_values, unsigned library_count);
int cuLibraryGetKernel(void **kernel, void *library, const char *name);
int cuLibraryUnload(void *library);

int cuLibraryLoadData(void **library, const void *code, void *options, void *values, unsigned count,
                      void *library_options, void *library_values, unsigned library_count)
{
    (void)code, (void)options, (void)values, (void)count;
    (void)library_options, (void)library_values, (void)library_count;
    *library = malloc(1);
    return 0;
}

int cuLibraryGetKernel(void **kernel, void *library, const char *name)
{
    (void)name;
    *kernel = library;
    return 0;
}

int cuLibraryUnload(void *library)
{
    free(library);
    return 0;
}

#define REFUSE(name)          \
    int name(void);           \
    int name(void)            \
    {                         \
        return NOT_SUPPORTED; \
    }

REFUSE(cuGetErrorName)
REFUSE(cuGetErrorString)
REFUSE(cuCtxGetCurrent)
REFUSE(cuCtxGetLimit)
REFUSE(cuCtxPopCurrent)
REFUSE(cuCtxPushCurrent)
REFUSE(cuStreamGetCtx)
REFUSE(cuDriverGetVersion)
REFUSE(cuLinkCreate)
REFUSE(cuLinkAddData)
REFUSE(cuLinkComplete)
REFUSE(cuLinkDestroy)
REFUSE(cuLaunchKernel)
REFUSE(cuLaunchCooperativeKernel)
REFUSE(cuDeviceGetCount)
REFUSE(cuDeviceGet)
REFUSE(cuLibraryLoadFromFile)
REFUSE(cuKernelSetAttribute)
REFUSE(cuKernelGetAttribute)
REFUSE(cuOccupancyMaxPotentialClusterSize)
REFUSE(cuLaunchKernelEx)
