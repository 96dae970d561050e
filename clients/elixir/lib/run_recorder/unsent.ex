defmodule RunRecorder.Unsent do
  # The files of events that could not be sent. They are written once and never changed, and whoever sends one removes it; two
  # that send the same do no harm, because of the ids. Blocks on the disk: called by the connection, and at the end.
  @moduledoc false

  import Bitwise

  @max_bytes 16 * 1_048_576
  @max_name 240
  @plain ~c"-._~"

  @doc "The folder, or nil where this user has none."
  def folder do
    case {absolute("XDG_STATE_HOME"), absolute("HOME")} do
      {nil, nil} -> nil
      {nil, home} -> Path.join(home, ".local/state/run-recorder/unsent")
      {state, _home} -> Path.join(state, "run-recorder/unsent")
    end
  end

  defp absolute(variable) do
    with "/" <> _ = path <- System.get_env(variable), do: path, else: (_ -> nil)
  end

  @doc "The files that wait for that socket's daemon, oldest first."
  def files(socket) do
    with folder when folder != nil <- folder(),
         true <- own_folder?(folder),
         {:ok, names} <- File.ls(folder) do
      pattern = Regex.compile!("\\A" <> Regex.escape(name(socket)) <> "@[0-9a-z-]+\\.ndjson\\z")
      for name <- Enum.sort(names), name =~ pattern, do: Path.join(folder, name)
    else
      _none -> []
    end
  end

  @doc "The whole lines of a file; none where it cannot be read or is larger than such a file can be."
  def lines(path) do
    with {:ok, %File.Stat{type: :regular, size: size}} when size <= 2 * @max_bytes <- File.lstat(path),
         {:ok, content} <- File.read(path) do
      # What follows the last newline was not written whole.
      content |> :binary.split("\n", [:global]) |> Enum.drop(-1) |> Enum.map(&String.trim/1) |> Enum.reject(&(&1 == ""))
    else
      _unreadable -> []
    end
  end

  @doc "Writes a new file. `lines` have no newline. {:ok, path} or {:error, why}."
  def write(socket, lines) do
    with {:ok, folder} <- make_folder(),
         {:ok, name} <- file_name(socket) do
      new = Path.join(folder, name <> ".new")
      path = Path.join(folder, name <> ".ndjson")

      case write_new(new, lines, path) do
        :ok ->
          sync_folder(folder)
          {:ok, path}

        {:error, why} ->
          File.rm(new)
          {:error, "#{path}: #{:file.format_error(why)}"}
      end
    end
  end

  @doc "How many bytes there is room for."
  def room do
    folder = folder()

    case folder && File.ls(folder) do
      {:ok, names} -> max(@max_bytes - (names |> Enum.map(&size(Path.join(folder, &1))) |> Enum.sum()), 0)
      _none -> @max_bytes
    end
  end

  defp size(path) do
    case File.lstat(path) do
      {:ok, %File.Stat{type: :regular, size: size}} -> size
      _other -> 0
    end
  end

  defp write_new(new, lines, path) do
    with {:ok, file} <- :file.open(new, [:write, :exclusive, :raw, :binary]) do
      written =
        with :ok <- File.chmod(new, 0o600),
             :ok <- :file.write(file, Enum.map(lines, &[&1, ?\n])),
             do: :file.sync(file)

      closed = :file.close(file)
      with :ok <- written, :ok <- closed, do: File.rename(new, path)
    end
  end

  defp sync_folder(folder) do
    with {:ok, opened} <- :file.open(folder, [:read, :directory, :raw]) do
      :file.sync(opened)
      :file.close(opened)
    end
  end

  defp make_folder do
    case folder() do
      nil ->
        {:error, "neither XDG_STATE_HOME nor HOME names a folder"}

      folder ->
        made = if File.exists?(folder), do: :ok, else: make(folder)

        cond do
          made != :ok -> {:error, "#{folder}: #{:file.format_error(elem(made, 1))}"}
          own_folder?(folder) -> {:ok, folder}
          true -> {:error, "#{folder} can be written by others than this user"}
        end
    end
  end

  defp make(folder), do: with(:ok <- File.mkdir_p(folder), do: File.chmod(folder, 0o700))

  defp own_folder?(folder) do
    case File.lstat(folder) do
      {:ok, %File.Stat{type: :directory, mode: mode, uid: uid}} -> (mode &&& 0o022) == 0 and uid == own_uid(uid)
      _other -> false
    end
  end

  # The owner of this process's entry in /proc is the user that it runs as; where there is none nothing is known against it.
  defp own_uid(otherwise) do
    case File.stat("/proc/self") do
      {:ok, %File.Stat{uid: uid}} -> uid
      _none -> otherwise
    end
  end

  defp file_name(socket) do
    unique = System.os_time(:microsecond) |> Integer.to_string(36) |> String.downcase()
    random = Base.encode16(:crypto.strong_rand_bytes(4), case: :lower)
    name = "#{name(socket)}@#{unique}-#{random}"
    if byte_size(name) > @max_name, do: {:error, "the socket's path is too long for a file's name"}, else: {:ok, name}
  end

  defp name(socket), do: for(<<byte <- socket>>, into: "", do: character(byte))

  defp character(?/), do: "+"

  defp character(byte) when byte in ?A..?Z or byte in ?a..?z or byte in ?0..?9 or byte in @plain, do: <<byte>>
  defp character(byte), do: "%" <> Base.encode16(<<byte>>)
end
