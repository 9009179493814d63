export function packAll(folder: string): { name: string; folder: string; tarball: string; manifest: Record<string, unknown> }[];
