/* Cuts the power of the filesystem that a directory is on, as far as a filesystem can be cut: from now on nothing reaches its
 * disk. `cut DIR 2` drops the journal that is still in memory, too; `cut DIR 1` lets it through, without the data. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define GOINGDOWN _IOR('X', 125, unsigned) /* FS_IOC_SHUTDOWN, which old headers don't have */

int main(int count, char **arguments) {
    if (count != 3)
        return 2;
    unsigned how = (unsigned)atoi(arguments[2]);
    int directory = open(arguments[1], O_RDONLY | O_DIRECTORY);
    if (directory < 0 || ioctl(directory, GOINGDOWN, &how) < 0) {
        perror(arguments[1]);
        return 1;
    }
    return 0;
}
