package suite

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/continuity/fs/fstest"
)

// A history is what is done in one snapshot after the other, each on top of the one before. There is one for each of the suite's subtests
// that also compare modes and owners, under its name, doing the same kinds of things.
var histories = map[string][]fstest.Applier{
	"Basic": {
		fstest.Apply(
			file("/readme.txt", "one"),
			fstest.CreateDir("/Data", 0755),
			fstest.CreateDir("/Data/Old", 0755),
			file("/Data/Old/table.csv", "1;2;3"),
		),
		fstest.Apply(file("/readme.txt", "two"), file("/new.txt", "new"), fstest.RemoveAll("/Data/Old")),
	},
	"LayerFileupdate": {
		fstest.Apply(
			fstest.CreateDir("/conf", 0700),
			file("/conf/server.ini", "port=1"),
			fstest.CreateFile("/conf/user.ini", []byte("name=a"), 0644),
		),
		fstest.Apply(
			file("/conf/server.ini", "port=2"),
			fstest.Chmod("/conf/user.ini", 0666),
			fstest.CreateDir("/home", 0700),
			file("/home/notes.txt", "buy milk"),
		),
		// Back to what it was: the layer must still say so.
		file("/conf/server.ini", "port=1"),
	},
	"RemoveDirectoryInLowerLayer": {
		fstest.Apply(fstest.CreateDir("/cache", 0700), file("/cache/stale", "")),
		fstest.Apply(fstest.RemoveAll("/cache"), fstest.CreateDir("/cache", 0700), file("/cache/fresh", "")),
		file("/cache/stale", "made again"),
	},
	"Chown": {
		fstest.Apply(
			fstest.CreateDir("/srv", 0700),
			fstest.CreateDir("/srv/www", 0700),
			file("/srv/www/index.html", "<p>"),
		),
		fstest.Apply(
			fstest.Chown("/srv", 7, 8),
			fstest.Chown("/srv/www", 7, 8),
			fstest.Chown("/srv/www/index.html", 7, 8),
		),
	},
	"DirectoryPermissionOnCommit": {
		fstest.Apply(
			fstest.CreateDir("/replaced", 0700),
			file("/replaced/gone", "gone"),
			fstest.CreateDir("/chmod", 0700),
			file("/chmod/stays", "stays"),
			fstest.CreateDir("/grows", 0700),
		),
		fstest.Apply(
			fstest.RemoveAll("/replaced"),
			fstest.CreateDir("/replaced", 0755),
			fstest.Chmod("/chmod", 0755),
			file("/grows/child", "child"),
		),
	},
	"DeletedFilesInChildSnapshot": {
		fstest.Apply(file("/kept", "kept"), file("/deleted", "deleted"), file("/comes back", "before")),
		fstest.Apply(fstest.RemoveAll("/deleted"), fstest.RemoveAll("/comes back")),
		file("/comes back", "after"),
	},
	"MoveFileFromLowerLayer": {
		fstest.Apply(
			fstest.CreateDir("/in", 0700),
			file("/in/letter", "Dear"),
			fstest.CreateDir("/out", 0700),
			file("/out/parcel", "heavy"),
		),
		fstest.Apply(
			fstest.CreateDir("/archive", 0700),
			fstest.Rename("/in/letter", "/archive/letter"),
			fstest.Rename("/out/parcel", "/in/parcel"),
		),
	},
	// A directory of a lower layer is renamed as mv does it when the kernel refuses: entry by entry.
	"Rename": {
		fstest.Apply(
			fstest.CreateDir("/bin", 0700),
			fstest.CreateDir("/tools", 0700),
			file("/tools/tool.exe", "MZ"),
			fstest.Symlink("/tools/tool.exe", "/bin/tool"),
		),
		fstest.Apply(
			fstest.RemoveAll("/bin/tool"),
			fstest.CreateDir("/tools-2", 0700),
			fstest.Rename("/tools/tool.exe", "/tools-2/tool.exe"),
			fstest.RemoveAll("/tools"),
			file("/tools", "was a directory"),
		),
		fstest.Apply(fstest.CreateDir("/new", 0700), file("/new/a", "a"), fstest.Rename("/new", "/bin/newer")),
	},
	"128LayersMount": deep(128),
}

func file(name, content string) fstest.Applier {
	return fstest.CreateFile(name, []byte(content), 0644)
}

// deep is a history in which every snapshot changes one file, adds one and removes the one that the snapshot before added.
func deep(layers int) []fstest.Applier {
	history := []fstest.Applier{fstest.Apply(
		file("/first", "never touched again"),
		file("/number", "0"),
		fstest.CreateDir("/each", 0755),
		file("/each/0", "0"),
	)}
	for i := 1; i < layers; i++ {
		number := fmt.Sprint(i)
		history = append(history, fstest.Apply(
			file("/number", number),
			file("/each/"+number, number),
			fstest.RemoveAll(fmt.Sprintf("/each/%d", i-1)),
		))
	}
	return history
}

// TestContent commits each history and demands of every snapshot the names, types and bytes that a plain directory has in which the same is
// done.
func TestContent(t *testing.T) {
	for name, history := range histories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			ctx := namespaces.WithNamespace(context.Background(), "testsuite")
			snapshotter, stop, err := start(ctx, root)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := stop(); err != nil {
					t.Error(err)
				}
			}()
			plain := filepath.Join(root, "plain")
			if err := os.Mkdir(plain, 0755); err != nil {
				t.Fatal(err)
			}
			parent := ""
			for i, change := range history {
				if err := change.Apply(plain); err != nil {
					t.Fatalf("snapshot %d: plain directory: %v", i, err)
				}
				if parent, err = commit(ctx, snapshotter, parent, i, change); err != nil {
					t.Fatalf("snapshot %d: %v", i, err)
				}
				// Looking at every snapshot of a deep chain would take longer than all else.
				if i%16 == 15 || i == len(history)-1 || len(history) < 16 {
					check(ctx, t, snapshotter, parent, plain)
				}
			}
		})
	}
}

func commit(ctx context.Context, s snapshots.Snapshotter, parent string, i int, change fstest.Applier) (string, error) {
	key, name := fmt.Sprintf("key %d", i), fmt.Sprintf("name %d", i)
	mounts, err := s.Prepare(ctx, key, parent)
	if err != nil {
		return "", fmt.Errorf("prepare: %w", err)
	}
	if err := mount.WithTempMount(ctx, mounts, change.Apply); err != nil {
		return "", fmt.Errorf("change: %w", err)
	}
	return name, s.Commit(ctx, name, key)
}

func check(ctx context.Context, t *testing.T, s snapshots.Snapshotter, parent, plain string) {
	t.Helper()
	key := "view of " + parent
	mounts, err := s.View(ctx, key, parent)
	if err != nil {
		t.Fatalf("view of %s: %v", parent, err)
	}
	err = mount.WithTempMount(ctx, mounts, func(view string) error {
		want, got := tree(t, plain), tree(t, view)
		for name, content := range want {
			if got[name] != content {
				t.Errorf("%s: %s is %q, want %q", parent, name, got[name], content)
			}
		}
		for name := range got {
			if _, ok := want[name]; !ok {
				t.Errorf("%s: %s is too many", parent, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("mount of %s: %v", parent, err)
	}
	if err := s.Remove(ctx, key); err != nil {
		t.Fatalf("remove view of %s: %v", parent, err)
	}
}

// tree tells what each path below a directory is: type, and bytes of a file. A link counts as a link: its target is written as Windows
// writes it.
func tree(t *testing.T, dir string) map[string]string {
	seen := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		content := ""
		if entry.Type().IsRegular() {
			bytes, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(bytes)
		}
		seen[path[len(dir):]] = fmt.Sprintf("%v %s", entry.Type(), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}
